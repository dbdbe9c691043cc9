"""What of the access log's entries is traced."""

from __future__ import annotations

import math
import random

import pytest

from ranker.metrics.catalogue import REQUEST_DURATION, TRACE_SPANS
from ranker.metrics.families import Distribution
from ranker.metrics.snapshot import snapshot
from ranker.metrics.trace import parse_traceparent
from tests.metrics.logging_server import HEADER, OK, OVERLOADED, SPAN, TRACE, ended
from tests.metrics.support import NAMES, value

NOT_RECORDED = HEADER[:-1] + "0"
INVALID = ["", "garbage", f"ff{HEADER[2:]}", f"{HEADER}-more", f"00-{'0' * 32}-{SPAN}-00"]
"""Headers that are to be ignored: https://www.w3.org/TR/trace-context/#traceparent-header."""


@pytest.mark.parametrize("mode", ["off", "errors", "all"])
@pytest.mark.parametrize(
    ("rate", "headers", "traced"),
    [
        pytest.param(0.0, [HEADER, NOT_RECORDED, None], [HEADER], id="as-its-caller-says"),
        pytest.param(1.0, [None, NOT_RECORDED], [None], id="a-share-of-the-others"),
        pytest.param(None, [HEADER, None], [], id="off"),
    ],
)
def test_requests_are_traced_whatever_is_logged(make, mode, rate, headers, traced):
    server = make(mode, 1.0, rate)
    for header in headers:
        server.end(OK, ended(traceparent=header))
        server.end(OVERLOADED, ended(traceparent=header))
    lines = server.lines()
    assert len(lines) == {"off": 0, "errors": len(headers), "all": 2 * len(headers)}[mode]
    assert [entry.traceparent for entry in server.traced] == [h for h in traced for _ in "ab"]
    assert {entry.code for entry in server.traced} == ({0, int(OVERLOADED)} if traced else set())


@pytest.mark.parametrize("mode", ["errors", "sampled"])
def test_a_share_of_the_requests_is_traced_however_they_end_and_whatever_else_is_noted(make, mode):
    random.seed(19)
    server, traced, left = make(mode, 0.0, 0.1), 0, 20_000
    while left:
        code, header = random.choice(
            [(OK, None), (OVERLOADED, None), (OK, NOT_RECORDED), (OK, "garbage")]
        )
        server.end(code, ended(traceparent=header))
        left -= header != NOT_RECORDED
        traced += sum(entry.span is not None for entry in server.sent_by(math.inf))
    # A binomial of 20000 and 0.1 has a deviation of 42.
    assert traced == pytest.approx(2000, abs=6 * 42)


@pytest.mark.parametrize("mode", ["off", "errors", "all"])
@pytest.mark.parametrize("header", INVALID)
def test_a_context_that_is_not_valid_is_as_none(make, mode, header):
    server = make(mode, 1.0, 1.0)
    for code in (OK, OVERLOADED):
        server.end(code, ended(traceparent=header))
    server.lines()
    spans = [parse_traceparent(entry.span or "") for entry in server.traced]
    assert [span and span.sampled for span in spans] == [True, True]
    assert [entry.traceparent for entry in server.traced] == [None, None]


@pytest.mark.parametrize("header", INVALID)
def test_a_context_that_is_not_valid_chooses_no_lines(make, header):
    server = make("sampled", 0.5)
    for number in range(20):
        for each in (header, None):
            server.end(OK, ended(traceparent=each, request_id=str(number)))
    ids = [line["request_id"] for line in server.lines()]
    assert ids[::2] == ids[1::2]
    assert 0 < len(ids) < 40


def test_a_line_and_an_exemplar_have_the_ids_of_the_span(make):
    server = make("all", 1.0, 1.0)
    server.end(OK, ended(traceparent=HEADER, ended=1.25))
    server.end(OK, ended(ended=1.01))
    server.end(OK, ended(traceparent=NOT_RECORDED))
    lines = server.lines()
    for line, entry in zip(lines, server.traced, strict=False):
        spans = [line["logging.googleapis.com/trace"], line["logging.googleapis.com/spanId"]]
        assert entry.span == f"00-{spans[0]}-{spans[1]}-01"
    assert lines[0]["logging.googleapis.com/trace"] == TRACE
    assert lines[2]["logging.googleapis.com/spanId"] == SPAN  # its caller's: it has none
    found = value(snapshot(server.aggregates), REQUEST_DURATION, *NAMES[0], "ok")
    assert isinstance(found, Distribution)
    exemplars = {exemplar.trace_id for exemplar in found.exemplars if exemplar}
    assert exemplars == {line["logging.googleapis.com/trace"] for line in lines[:2]}
    assert len(exemplars) == 2


def test_what_is_only_traced_waits_for_more_but_not_for_long(make):
    server = make("errors", 1.0, 1.0)
    server.end(OK, ended(ended=10.0))
    server.end(OK, ended(ended=10.3))
    assert len(server.sent_by(10.4)) == 0
    assert len(server.sent_by(10.6)) == 2
    server.end(OK, ended(ended=11.0))
    server.end(OVERLOADED, ended(ended=11.1))
    assert len(server.sent_by(11.1)) == 2  # the line of the log does not wait
    assert len(server.sent_by(20.0)) == 0


def test_spans_that_an_office_does_not_take_are_counted(make):
    server = make("off", 1.0, 1.0)
    requests = 0
    while not (lost := value(snapshot(server.aggregates), TRACE_SPANS, "dropped")):
        for _ in range(64):
            server.end(OK, ended(batch=(10, 1, 1.0, 1.1)))
        requests += 64
    assert server.counted("dropped") == 0  # nothing was to be logged
    assert server.lines() == []
    assert len(server.traced) == requests - lost / 3
