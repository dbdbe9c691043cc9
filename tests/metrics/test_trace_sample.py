"""Which requests are traced."""

from __future__ import annotations

import random

import pytest

from ranker.metrics.trace import parse_traceparent
from ranker.metrics.trace_sample import TraceSample, span_in

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def begun(rate: float, requests: int) -> int:
    """How many of so many requests without a context begin a trace."""
    sample, traced = TraceSample(rate), 0
    for _ in range(requests):
        if sample.left:
            sample.left -= 1.0
        else:
            sample.begin()
            traced += 1
    return traced


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (1.0, 1000)], ids=["none", "all"])
def test_none_and_all(rate, expected):
    assert begun(rate, 1000) == expected


def test_a_share_of_the_requests_begins_a_trace():
    random.seed(19)
    # A binomial of 20000 and 0.1 has a deviation of 42.
    assert begun(0.1, 20_000) == pytest.approx(2000, abs=6 * 42)


def test_a_trace_that_begins_is_recorded_and_has_ids_of_its_own():
    sample = TraceSample(1.0)
    first, second = (parse_traceparent(sample.begin()) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.sampled
    assert first.trace_id != second.trace_id


def test_a_span_in_its_callers_trace_has_an_id_of_its_own():
    span = parse_traceparent(span_in(f"00-{TRACE}-{CALLER}-01") or "")
    assert span is not None
    assert (span.trace_id, span.sampled) == (TRACE, True)
    assert span.span_id != CALLER


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(f"00-{TRACE}-{CALLER}-00", id="not-recorded"),
        pytest.param(f"00-{'0' * 32}-{CALLER}-01", id="not-valid"),
        pytest.param("", id="empty"),
    ],
)
def test_what_its_caller_does_not_record_is_not_traced(header):
    assert span_in(header) is None
