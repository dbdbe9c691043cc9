"""What the service has put on record of the requests that it was asked."""

from __future__ import annotations

import time

import pytest

from ranker.errors import Code
from ranker.metrics import catalogue as catalog
from ranker.metrics.families import Distribution
from ranker.metrics.metric import Metric
from ranker.metrics.snapshot import snapshot
from ranker.serving.services import SERVICE
from ranker.serving.wire import RANK
from tests.fakes import BrokenEngine, FakeCall
from tests.serving.support import THREE, Serving, StreamOfLists, request

GARBAGE = b"\xff\xff"


def counted(serving: Serving, *metrics: Metric) -> dict[str, dict[str, float]]:
    """Per metric, what was counted under which labels; histograms by their count."""
    found: dict[str, dict[str, float]] = {}
    for family in snapshot(serving.aggregates):
        for sample in family.samples if family.metric in metrics else ():
            value = sample.value
            number = value.count if isinstance(value, Distribution) else value
            if number:
                found.setdefault(family.metric.name, {})[" ".join(sample.labels)] = number
    return found


class TestCounts:
    """Every request is counted once, whatever becomes of it."""

    @pytest.mark.parametrize(
        ("message", "labels"),
        [
            pytest.param(request(THREE, request_id="x"), "books 7 OK", id="answered"),
            pytest.param(GARBAGE, "unknown  INVALID_ARGUMENT", id="garbage"),
            pytest.param(
                request(THREE, request_id="x", model="songs"), "unknown  NOT_FOUND", id="model"
            ),
            pytest.param(
                request(THREE, request_id="x", top_k=-1), "books 7 INVALID_ARGUMENT", id="invalid"
            ),
        ],
    )
    @pytest.mark.parametrize("method", ["Rank", "RankStream"])
    def test_by_status(self, serving, method, message, labels):
        s = serving()
        s.send(method, FakeCall(), message)
        s.turn_until_idle()
        model = labels.rpartition(" ")[0]
        outcome = "ok" if labels.endswith("OK") else "error"
        metrics = catalog.REQUESTS, catalog.REQUEST_DURATION, catalog.NO_DEADLINE
        assert counted(s, *metrics) == {
            "ranker_requests_total": {labels: 1},
            "ranker_request_duration_seconds": {f"{model} {outcome}": 1},
            "ranker_requests_without_deadline_total": {model: 1},
        }

    def test_what_a_stream_refuses_itself(self, serving):
        stream = StreamOfLists(serving())
        stream.send(request(THREE))  # no id
        stream.send(request(THREE, request_id="a"))
        stream.send(request(THREE, request_id="a"))
        stream.serving.service.drain()
        stream.send(request(THREE, request_id="b"))
        assert len(stream.answers()) == 3
        assert counted(stream.serving, catalog.REQUESTS, catalog.SHED) == {
            "ranker_requests_total": {
                "unknown  INVALID_ARGUMENT": 2,
                "unknown  UNAVAILABLE": 1,
                "books 7 OK": 1,
            },
            "ranker_requests_shed_total": {"unknown  draining": 1},
        }

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            pytest.param(Code.CANCELLED, "cancelled", id="cancelled"),
            pytest.param(Code.DEADLINE_EXCEEDED, "deadline", id="deadline"),
        ],
    )
    @pytest.mark.parametrize("method", ["Rank", "RankStream"])
    def test_a_caller_that_goes(self, serving, method, code, reason):
        s = serving()
        # The deadline of our own clock has not come: the transport knows better.
        call = FakeCall(deadline=time.monotonic() + 60)
        s.send(method, call, request(THREE, request_id="a"))
        call.code, call.over = code, True
        call.send = call.fail = lambda _: None  # as of a call that is over
        s.methods[f"/{SERVICE}/{method}"].handler.closed(call)
        s.turn_until_idle()
        assert counted(s, catalog.REQUESTS, catalog.EXPIRED, catalog.DEADLINE_SLACK) == {
            "ranker_requests_total": {f"books 7 {code.name}": 1},
            "ranker_requests_expired_total": {f"books 7 {reason}": 1},
            "ranker_request_deadline_slack_seconds": {"books 7": 1},
        }

    def test_a_refusal_of_the_queue(self, serving):
        s = serving(max_queue_rows=5)
        s.send("Rank", FakeCall(), request(THREE))
        s.send("Rank", FakeCall(peer="another"), request(THREE))
        assert counted(s, catalog.REQUESTS, catalog.SHED) == {
            "ranker_requests_total": {"books 7 RESOURCE_EXHAUSTED": 1},
            "ranker_requests_shed_total": {"books 7 queue_rows": 1},
        }

    def test_a_list_refused_unread(self, serving):
        s = serving()
        s.send("Rank", FakeCall(), request(THREE))
        s.cost.fixed = 10.0
        call = FakeCall(deadline=time.monotonic() + 5)
        assert not s.methods[f"/{SERVICE}/Rank"].handler.opened(call)
        assert call.code is Code.RESOURCE_EXHAUSTED
        assert counted(s, catalog.REQUESTS, catalog.SHED, catalog.DEADLINE_SLACK) == {
            "ranker_requests_total": {"unknown  RESOURCE_EXHAUSTED": 1},
            "ranker_requests_shed_total": {"unknown  deadline": 1},
            "ranker_request_deadline_slack_seconds": {"unknown ": 1},
        }

    def test_a_bug_in_the_engine(self, serving, caplog):
        s = serving(BrokenEngine())
        traced, untraced = FakeCall(), FakeCall()
        traced.traceparent = f"00-{'4b' * 16}-{'00f0' * 4}-01"
        for call in (traced, untraced):
            s.send("Rank", call, request(THREE))
        s.turn_until_idle()
        assert counted(s, catalog.REQUESTS, catalog.QUEUE_DURATION) == {
            "ranker_requests_total": {"books 7 INTERNAL": 2}
        }
        traces = [record.trace.trace_id for record in caplog.records if hasattr(record, "trace")]
        assert traces == ["4b" * 16]

    def test_a_bug_in_reading(self, serving, monkeypatch):
        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("ranker.serving.services.RANK", RANK._replace(read=broken))
        s = serving()
        for method in ("Rank", "RankStream"):
            s.send(method, FakeCall(), request(THREE, request_id="a"))
        assert counted(s, catalog.REQUESTS)["ranker_requests_total"] == {"unknown  INTERNAL": 2}
