"""The access log: what is logged, what a line says, and what is lost rather than waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

import psutil
import pytest

from ranker.errors import Code
from ranker.metrics import access_log_writer
from ranker.metrics.access_log import ERRORS_PER_SECOND
from tests.metrics.logging_server import HEADER, OK, OVERLOADED, SPAN, TRACE, ended
from tests.waiting import wait_until

OFFICE = """
import os, sys, time
from ranker.metrics.access_log_writer import AccessLogWriter
from tests.metrics.support import new_aggregates
os.sched_setaffinity(0, {int(sys.argv[3])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
AccessLogWriter(int(sys.argv[1]), int(sys.argv[2]), new_aggregates())
print("waits", flush=True)
time.sleep(600)
"""
"""An office that gets a core only while nobody else wants it."""

BUSY = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print("works", flush=True)
while True:
    pass
"""


def test_a_line_says_whose_request_it_was_and_where_its_time_went(make):
    server = make("all")
    before = time.time()
    server.end(OK, ended(request_id="a7", queued=0.0625, scoring=0.125, traceparent=HEADER))
    [line] = server.lines(project="shop")
    assert before <= _seconds(line.pop("time")) <= time.time()
    assert line == {
        "severity": "INFO",
        "message": "ranking request: OK",
        "logger": "ranker.access",
        "request_id": "a7",
        "model": "books",
        "version": "1",
        "candidates": 3,
        "code": "OK",
        "queue_seconds": 0.0625,
        "scoring_seconds": 0.125,
        "total_seconds": 0.25,
        "peer": "ipv4:192.0.2.1:4711",
        "logging.googleapis.com/trace": f"projects/shop/traces/{TRACE}",
        "logging.googleapis.com/spanId": SPAN,
        "logging.googleapis.com/trace_sampled": True,
        "logging.googleapis.com/labels": {"worker": "0"},
    }


@pytest.mark.parametrize(
    ("mode", "rate", "logged"),
    [
        pytest.param("errors", 1.0, ["bad"], id="errors"),
        pytest.param("sampled", 1.0, ["good", "bad"], id="sampled-everything"),
        pytest.param("sampled", 0.0, ["bad"], id="sampled-nothing"),
        pytest.param("all", 0.0, ["good", "bad"], id="all"),
    ],
)
def test_what_each_mode_logs(make, mode, rate, logged):
    server = make(mode, rate)
    server.end(OK, ended(request_id="good"))
    server.end(OVERLOADED, ended(request_id="bad"))
    assert [line["request_id"] for line in server.lines()] == logged


def test_a_request_for_no_model_that_is_served_is_of_an_unknown_one(make):
    server = make("errors")
    server.recorder.unknown_model().request_ended(Code.NOT_FOUND, ended())
    [line] = server.lines()
    assert (line["model"], line["version"], line["severity"]) == ("unknown", "", "WARNING")


def test_a_trace_is_in_the_sample_as_a_whole(make):
    server = make("sampled", 0.5)
    traces = [f"{number:032x}" for number in range(1, 201)]
    for trace in traces * 3:
        server.end(OK, ended(traceparent=f"00-{trace}-{SPAN}-00"))
    found = [line["logging.googleapis.com/trace"] for line in server.lines()]
    assert all(found.count(trace) in (0, 3) for trace in traces)
    assert 60 < len(set(found)) < 140


def test_errors_are_capped_and_the_rest_is_counted(make):
    server = make("errors")
    for second in (10.0, 11.5):
        for _ in range(ERRORS_PER_SECOND + 7):
            server.end(OVERLOADED, ended(ended=second))
    assert len(server.lines()) == 2 * ERRORS_PER_SECOND
    assert server.counted("capped") == 14
    assert server.counted("written") == 2 * ERRORS_PER_SECOND


def test_a_worker_never_waits_for_an_office_that_does_not_read(make):
    server = make("all")
    requests = server.fill()
    lines = len(server.lines())
    assert lines > 0
    assert server.counted("dropped") + lines == requests


def test_what_was_sent_while_there_was_no_office_is_written_by_the_next_one(make):
    server = make("all")
    server.end(OK, ended(request_id="first"))
    assert [line["request_id"] for line in server.lines()] == ["first"]
    server.end(OK, ended(request_id="second"))
    server.flush()
    assert [line["request_id"] for line in server.lines()] == ["second"]


@contextmanager
def started(
    program: str, *arguments: int, fds: Iterable[int] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, once it says that it is where it should be; ended in any case."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, pass_fds=list(fds)
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such policy")
def test_an_office_that_is_killed_and_gets_no_core_to_end_on_takes_no_line_with_it(make):
    server = make("all")
    ends = server.offices_end.fileno(), server.workers_end.fileno()
    core = min(os.sched_getaffinity(0))
    with started(OFFICE, *ends, core, fds=ends) as office:
        wait_until(lambda: psutil.Process(office.pid).status() == psutil.STATUS_SLEEPING)
        with started(BUSY, core):
            office.kill()
            server.end(OK, ended(request_id="after"))
            server.flush()
    assert [line["request_id"] for line in server.lines()] == ["after"]


def test_the_end_of_an_office_that_was_killed_before_it_ended_is_not_the_next_ones(make):
    """It had said to itself that it is to end."""
    server = make("all")
    server.workers_end.send(b"")
    server.end(OK, ended())
    server.flush()
    with tempfile.TemporaryFile("w+") as output:
        office = server.office(output.fileno())
        wait_until(lambda: server.counted("written") == 1)
        office.close()


def test_an_output_that_is_gone_is_reported_once_and_lines_count_as_dropped(make, caplog):
    server = make("all")
    read, write = os.pipe()
    os.close(read)
    for _ in range(200):
        server.end(OK, ended())
    server.flush()
    server.office(write).close()
    os.close(write)
    assert server.counted("dropped") == 200
    assert [record.message for record in caplog.records] == [
        "the access log can't be written: Broken pipe"
    ]


def test_all_else_goes_on_although_nobody_reads_its_output(make):
    server = make("all", 1.0, 1.0)
    read, write = os.pipe()
    office = server.office(write)
    server.fill()
    for _ in range(3):
        before = len(server.traced)
        server.end(OK, ended(traceparent=HEADER))
        server.flush()
        wait_until(lambda before=before: len(server.traced) > before)
    os.close(read)
    office.close()
    os.close(write)


def test_an_office_ends_although_nobody_reads_its_output(make, monkeypatch, caplog):
    monkeypatch.setattr(access_log_writer, "_CLOSING_SECONDS", 0.05)
    server = make("all")
    read, write = os.pipe()
    office = server.office(write)
    server.fill()
    office.close()
    assert "nobody reads the access log" in caplog.text
    monkeypatch.setattr(access_log_writer, "_CLOSING_SECONDS", 30.0)
    os.close(read)  # so that the thread can't write, and comes to its end
    office.close()
    os.close(write)


def test_long_texts_of_a_caller_are_cut(make):
    server = make("all")
    for _ in range(64):
        server.end(OK, ended(request_id="\U0001f4d6" * 100_000, traceparent=HEADER + "x" * 100_000))
    lines = server.lines()
    assert len(lines) == 64
    assert {line["request_id"] for line in lines} == {"\U0001f4d6" * 128}


def _seconds(text: object) -> float:
    assert isinstance(text, str)
    return datetime.fromisoformat(text).timestamp()
