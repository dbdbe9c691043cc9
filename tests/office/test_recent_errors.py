"""The errors that the status page shows."""

from __future__ import annotations

from ranker.office.recent_errors import RecentErrors

LINE = {
    "time": "2026-11-28T17:00:00+00:00",
    "code": "NOT_FOUND",
    "model": "films",
    "version": "",
    "candidates": 3,
    "total_seconds": 0.0001,
    "request_id": "r1",
    "peer": "ipv4:192.0.2.1:4711",
}


def test_the_latest_come_first_and_thirty_are_kept():
    errors = RecentErrors()
    for number in range(40):
        errors.add_request({**LINE, "request_id": str(number)})
        errors.add_incident("2026", f"{number:04x}", "scoring failed", "worker 0")
    latest = errors.latest()
    assert [each["request_id"] for each in latest["requests"]] == [str(n) for n in range(39, 9, -1)]
    assert latest["incidents"][0] == {
        "time": "2026",
        "incident": "0027",
        "what": "scoring failed",
        "process": "worker 0",
    }
    assert errors.changes == 80


def test_who_asked_is_not_kept():
    errors = RecentErrors()
    errors.add_request(LINE)
    [kept] = errors.latest()["requests"]
    assert kept == {name: value for name, value in LINE.items() if name != "peer"}
