"""Loads: what they count is what the server counts, and wrong answers do not pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xgboost as xgb

from benchmarks.harness import cost, h2load
from benchmarks.harness.loads import closed_loop
from benchmarks.harness.requests import Request, WrongAnswerError
from ranker.client import channel as wire
from tests.waiting import PATIENCE, wait_until

needs_h2load = pytest.mark.skipif(bool(h2load.missing()), reason=h2load.missing())


@pytest.fixture(scope="session")
def requests(booster) -> list[Request]:
    rows = np.random.default_rng(8).normal(size=(40, 5, 16)).astype(np.float32)
    return [
        Request(each, scores=booster.predict(xgb.DMatrix(each), output_margin=True))
        for each in rows
    ]


@pytest.mark.parametrize("method", ["unary", "stream"])
def test_closed_loop(server, requests, method):
    before = server.scrape().codes()
    found = closed_loop(server.address, requests, 4, 0.5, method)
    codes = server.scrape().codes() - before
    assert codes == {"OK": len(found.latencies)}
    assert len(found.latencies) > 4
    assert 0.5 <= found.seconds < 30
    assert 0 < min(found.latencies) < 0.5  # seconds; others may be those of a busy machine


@pytest.mark.parametrize("method", ["unary", "stream"])
def test_a_wrong_answer_ends_the_load(server, requests, method):
    wrong = [replace(request, scores=-request.scores) for request in requests]
    with pytest.raises(WrongAnswerError):
        closed_loop(server.address, wrong, 4, 5.0, method)


@needs_h2load
def test_kept_busy(server, requests):
    def is_kept_busy() -> bool:
        """Whether it answers more than 32 in half a second, unless the machine stands still."""
        before = cost.answered(server)
        found = cost.by_h2load(server, requests, 0.5)
        assert 5 < found[cost.CPU] < 50_000
        return cost.answered(server) - before > 32 and found[cost.RATE] > 60

    wait_until(is_kept_busy)
    streamed = cost.by_h2load(server, requests, 0.5, "stream")
    assert 5 < streamed[cost.CPU] < 50_000


@needs_h2load
def test_open_loop_sends_at_the_rate_and_tells_the_deadline(server, requests):
    before = server.scrape().codes()
    calls = cost.offer(server.url, requests, 200.0, 1.0, timeout=PATIENCE)
    codes = server.scrape().codes() - before
    assert codes == {"OK": len(calls)}
    assert 100 < len(calls) < 300
    assert list(calls) == sorted(calls)
    ends = [call.sent + call.latency for call in calls]
    assert 0.5 < calls.seconds < 30
    assert calls.seconds == max(ends) - calls[0].sent
    assert calls.rate == pytest.approx(len(calls) / (calls[-1].sent - calls[0].sent))
    assert server.scrape().total("ranker_request_deadline_slack_seconds_count") >= len(calls)


@needs_h2load
def test_a_server_that_is_not_there_is_an_error():
    url = f"http://127.0.0.1:1{wire.RANK[0]}"
    with pytest.raises(RuntimeError, match="h2load failed"):
        h2load.keep_busy(url, [b""], clients=1, streams=1, seconds=0.2)


def test_a_rate_beyond_h2loads_clock_is_refused():
    with pytest.raises(ValueError, match="at most 106667 calls"):
        h2load.open_loop("http://127.0.0.1:1/", [b""], 200_000.0, 1.0)


def test_a_poisson_process_has_its_rate_and_exponential_gaps():
    moments = np.array(list(h2load.poisson(1000, 20, seed=3)))
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    gaps = np.diff(moments)
    assert (gaps >= 0).all()
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert moments[-1] < 20
