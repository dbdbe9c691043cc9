from __future__ import annotations

import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ranker.engine.api import EngineLostError
from ranker.errors import (
    CancelledError,
    DeadlineError,
    InternalError,
    OverloadedError,
    UnavailableError,
)
from ranker.metrics.aggregates import Aggregates, Layout
from ranker.metrics.families import Distribution
from ranker.metrics.recorder import Recorder
from ranker.serving.cost import CostModel
from ranker.serving.dispatcher import Dispatcher, ScoringJob
from ranker.serving.queue import Batcher
from tests.fakes import INLINE, BrokenEngine, SumEngine


class Kitchen:
    """A dispatcher over one engine, and what came out of it."""

    def __init__(self, engine=None, *, fixed=0.0, inline=INLINE, **limits) -> None:
        self.engine = engine or SumEngine()
        self.cost = CostModel()
        self.cost.fixed = fixed
        sizes = {"max_batch_rows": 100, "max_queue_rows": 10_000, "max_queue_bytes": 10**9}
        aggregates = Aggregates.private(Layout((("m", "1"),), ("/test",)))
        self.aggregates = aggregates
        self.recorder = Recorder(aggregates)
        batcher = Batcher([self.cost], **{**sizes, **limits})
        self.lost = 0

        def lost() -> None:
            self.lost += 1

        self.dispatcher = Dispatcher([self.engine], batcher, self.recorder, lost, inline)
        self.done: list[tuple[np.ndarray, np.ndarray]] = []
        self.dropped: list[Exception] = []
        self.threads: set[int] = set()
        self.finished = threading.Event()

    def submit(self, n: int, deadline: float = math.inf) -> ScoringJob:
        rows = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)

        def done(scores, queued, scoring) -> None:
            assert queued >= 0.0
            assert scoring >= 0.0
            self.threads.add(threading.get_ident())
            self.done.append((rows, scores))
            self.finished.set()

        def dropped(error) -> None:
            self.dropped.append(error)
            self.finished.set()

        job = ScoringJob(0, rows, rows.nbytes, time.monotonic(), deadline, done, dropped)
        self.dispatcher.submit(job)
        return job

    def pump(self) -> None:
        """As a loop with nothing to read does it."""
        while self.dispatcher.pump() is not None:
            pass

    def counted(self) -> dict[str, float]:
        """By the names of metrics, histograms by their sum, all labels taken together."""
        return {
            family.metric.name: sum(
                sample.value.sum if isinstance(sample.value, Distribution) else sample.value
                for sample in family.samples
            )
            for family in self.aggregates.snapshot()
        }

    def check(self, answers: int) -> None:
        assert len(self.done) == answers
        for rows, scores in self.done:
            np.testing.assert_array_equal(scores, rows.sum(axis=1, dtype=np.float32))


@pytest.fixture
def kitchen():
    made: list[Kitchen] = []

    def make(*args, **kwargs) -> Kitchen:
        made.append(Kitchen(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.dispatcher.close()
        each.recorder.close()


def test_what_waits_is_one_batch(kitchen):
    k = kitchen()
    for n in (3, 5, 1):
        k.submit(n)
    assert k.dispatcher.pump() is None
    k.check(3)
    assert k.engine.batches == [[3, 5, 1]]


def test_a_long_list_is_split_and_rejoined(kitchen):
    k = kitchen()
    k.submit(250)
    k.submit(20)
    k.pump()
    k.check(2)
    assert all(sum(batch) <= 100 for batch in k.engine.batches)


def test_short_batches_are_scored_on_the_loops_thread(kitchen):
    k = kitchen()
    k.submit(3)
    k.dispatcher.pump()
    assert k.threads == {threading.get_ident()}


def test_long_batches_are_scored_on_the_engines_thread(kitchen):
    k = kitchen(fixed=1.0)
    k.submit(3)
    assert k.dispatcher.pump() is None
    assert k.finished.wait(10)
    k.check(1)
    assert threading.get_ident() not in k.threads


@pytest.mark.parametrize(
    ("inline", "on_the_loop"),
    [pytest.param(0.004, True, id="a-patient-loop"), pytest.param(0.0001, False, id="an-eager")],
)
def test_the_transport_says_how_long_its_loop_may_be_kept(kitchen, inline, on_the_loop):
    k = kitchen(fixed=0.001, inline=inline)
    k.submit(3)
    k.dispatcher.pump()
    assert k.finished.wait(10)
    k.check(1)
    assert k.threads.isdisjoint({threading.get_ident()}) is not on_the_loop


def test_the_engines_thread_goes_on_with_what_gathered(kitchen):
    release = threading.Event()

    class Slow(SumEngine):
        def score(self, blocks):
            release.wait(10)
            return super().score(blocks)

    k = kitchen(Slow(), fixed=1.0)
    k.submit(3)
    k.dispatcher.pump()
    k.submit(4)
    k.submit(5)
    assert k.dispatcher.pump() is None
    release.set()
    k.dispatcher.close()
    k.check(3)
    assert k.engine.batches == [[3], [4, 5]]


def test_the_loop_takes_over_again_when_batches_are_short(kitchen):
    k = kitchen(fixed=1.0)
    k.submit(3)
    k.dispatcher.pump()
    assert k.finished.wait(10)
    k.cost.fixed = 0.0
    deadline = time.monotonic() + 10
    while len(k.done) < 2 and time.monotonic() < deadline:
        k.submit(3)
        k.dispatcher.pump()
    assert threading.get_ident() in k.threads


def test_what_has_arrived_is_read_between_two_batches(kitchen):
    k = kitchen()
    k.submit(100)
    k.submit(5)
    assert k.dispatcher.pump() == 0.0
    k.check(1)
    k.submit(7)
    assert k.dispatcher.pump() is None
    assert k.engine.batches[1] == [5, 7]


@pytest.fixture
def clock(monkeypatch):
    """A dispatcher's clock, in a list of one; it stands still unless a test moves it."""
    now = [1000.0]
    monkeypatch.setattr("ranker.serving.dispatcher.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Slow(SumEngine):
    """An engine that takes a second."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self._clock = clock

    def score(self, blocks):
        self._clock[0] += 1.0
        return super().score(blocks)


def test_what_is_read_after_a_batch_on_the_loop_may_have_waited_for_its_end(kitchen, clock):
    k = kitchen(Slow(clock))
    k.submit(3)
    k.dispatcher.pump()
    k.cost.fixed, k.cost.per_row = 0.001, 0.0
    k.submit(3)
    now = clock[0]
    k.submit(3, deadline=now + 1.1)
    with pytest.raises(OverloadedError):
        k.submit(3, deadline=now + 0.9)
    with pytest.raises(OverloadedError):
        k.dispatcher.check(now + 0.9)
    clock[0] = now + 0.5  # the loop still reads
    with pytest.raises(OverloadedError):
        k.submit(3, deadline=now + 1.9)
    clock[0] = now + 1.01  # by now it has read what came in that second
    k.dispatcher.check(now + 1.1)
    k.submit(3, deadline=now + 1.1)


def test_an_engine_that_was_done_sooner_than_predicted_is_idle(kitchen, clock):
    k = kitchen(fixed=0.003)
    k.submit(3)
    k.dispatcher.pump()
    assert not k.submit(3, deadline=clock[0] + 0.001).waited


def test_an_expired_list_is_dropped_unscored(kitchen):
    k = kitchen()
    k.submit(3, deadline=time.monotonic() - 1.0)
    k.submit(2)
    k.dispatcher.pump()
    k.check(1)
    assert [type(error) for error in k.dropped] == [DeadlineError]
    assert k.engine.batches == [[2]]


def test_a_cancelled_list_is_dropped_unscored(kitchen):
    k = kitchen()
    k.submit(3).cancelled = True
    k.dispatcher.pump()
    assert [type(error) for error in k.dropped] == [CancelledError]
    assert k.engine.batches == []


def test_a_full_queue_refuses(kitchen):
    k = kitchen(max_queue_rows=10)
    k.submit(8)
    with pytest.raises(OverloadedError, match="queue is full"):
        k.submit(8)
    k.dispatcher.pump()
    k.check(1)


def test_a_broken_engine_fails_its_batch_once_and_nothing_else(kitchen, caplog):
    k = kitchen(BrokenEngine())
    k.submit(3)
    k.submit(250)  # of which a part is still in the queue when the engine fails
    k.pump()
    assert [type(error) for error in k.dropped] == [InternalError] * 2
    assert "secret" not in k.dropped[0].message
    assert "secret of the engine" in caplog.text
    k.engine.broken = False
    k.submit(4)
    k.dispatcher.pump()
    k.check(1)


@pytest.mark.parametrize("fixed", [0.0, 1.0], ids=["on-the-loop", "on-the-engines-thread"])
@pytest.mark.parametrize("end", ["scored", "cancelled", "failed"])
def test_a_list_that_cannot_be_told_spoils_nothing_else(kitchen, caplog, fixed, end):
    k = kitchen(fixed=fixed)

    def fail(*_: object) -> None:
        raise RuntimeError("nobody listens")

    k.engine.broken = end == "failed"
    untold = k.submit(3)
    untold.done = untold.dropped = fail
    untold.cancelled = end == "cancelled"
    k.submit(4)
    k.pump()
    assert k.finished.wait(10)
    assert "nobody listens" in caplog.text
    k.finished.clear()
    k.engine.broken = False
    k.submit(5)
    k.pump()
    assert k.finished.wait(10)
    assert len(k.done) + len(k.dropped) == 2
    deadline = time.monotonic() + 10
    while not k.dispatcher.idle() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert k.dispatcher.idle()


def test_what_the_loop_scores_itself_keeps_the_dispatcher_from_being_idle(kitchen):
    class Watched(SumEngine):
        def score(self, blocks):
            seen.append(k.dispatcher.idle())
            return super().score(blocks)

    seen: list[bool] = []
    k = kitchen(Watched())
    k.submit(3)
    k.pump()
    k.check(1)
    assert k.threads == {threading.get_ident()}
    assert seen == [False]
    assert k.dispatcher.idle()


def test_a_lost_engine_is_told_and_its_callers_may_ask_elsewhere(kitchen):
    engine = BrokenEngine()
    engine.error = EngineLostError
    k = kitchen(engine)
    k.submit(3)
    k.pump()
    assert k.lost == 1
    [error] = k.dropped
    assert isinstance(error, UnavailableError)
    assert "secret" not in error.message


def test_a_list_counts_once_in_every_batch_that_has_a_part_of_it(kitchen):
    k = kitchen(max_batch_rows=600)
    k.submit(900)  # 256 rows, then what room is left; the rest in a second batch
    k.submit(10)
    assert k.dispatcher.pump() == 0.0
    assert k.counted()["ranker_queue_rows"] == 310
    k.pump()
    k.check(2)
    counted = k.counted()
    assert counted["ranker_queue_rows"] == 0
    assert counted["ranker_batch_requests"] == 2 + 1
    assert counted["ranker_batch_rows"] == counted["ranker_candidates_scored_total"] == 910


def test_a_batch_that_waits_on_the_engines_thread_goes_as_soon_as_it_is_full(kitchen):
    k = kitchen(fixed=1.0, max_batch_rows=10, max_delay=600.0)
    k.submit(13)
    k.dispatcher.pump()
    assert k.submit(7).rows == 7  # with the 3 that are left
    deadline = time.monotonic() + 10
    while len(k.done) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    k.check(2)


def test_what_waits_at_the_end_is_dropped_and_counted(kitchen):
    k = kitchen(max_delay=600.0)
    k.submit(3).cancelled = True
    k.dispatcher.pump()
    assert k.dropped == []
    k.dispatcher.close()
    assert [type(error) for error in k.dropped] == [CancelledError]
    counted = k.counted()
    assert counted["ranker_requests_expired_total"] == 1
    assert counted["ranker_queue_rows"] == 0
    assert k.engine.batches == []


def test_max_batch_delay_asks_to_be_called_again(kitchen):
    k = kitchen(max_delay=0.05)
    k.submit(3)
    pause = k.dispatcher.pump()
    assert 0.0 < pause <= 0.05
    time.sleep(pause)
    assert k.dispatcher.pump() is None
    k.check(1)


def test_warming_teaches_what_a_batch_costs(kitchen):
    k = kitchen()
    k.dispatcher.warm(0)
    assert k.cost.predict(100) > 0.0
    assert k.engine.batches
