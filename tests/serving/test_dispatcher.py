from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from ranker.engine.api import EngineLostError
from ranker.errors import (
    CancelledError,
    DeadlineError,
    InternalError,
    OverloadedError,
    UnavailableError,
)
from ranker.serving.task import RankTask
from tests.fakes import BrokenEngine, SumEngine
from tests.serving.lists import a_list
from tests.waiting import PATIENCE

LOOP = threading.get_ident()


class WhereEngine(SumEngine):
    """Notes on which threads it scores."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def score(self, blocks):
        self.threads.append(threading.get_ident())
        return super().score(blocks)


def test_what_waits_is_one_batch(serving):
    s = serving()
    for rows in (3, 5, 1):
        s.submit(rows)
    assert s.turn() is None
    s.check(3)
    assert s.engines[0].batches == [[3, 5, 1]]


def test_a_long_list_is_split_and_rejoined(serving):
    s = serving()
    s.submit(250)
    s.submit(20)
    s.turn_until_idle()
    s.check(2)
    assert all(sum(batch) <= 100 for batch in s.engines[0].batches)


def test_of_a_list_in_several_batches_each_has_a_part(serving):
    s = serving()
    s.submit(250)
    s.turn()
    assert s.dispatcher.scored == pytest.approx(100 / 250)
    s.submit(20)
    s.turn_until_idle()
    assert s.dispatcher.scored == pytest.approx(2)


def test_short_batches_are_scored_on_the_loops_thread(serving):
    s = serving(WhereEngine())
    s.submit(3)
    s.turn()
    s.check(1)
    assert s.engines[0].threads == [LOOP]
    assert s.dispatcher.spare_seconds == 0  # the loop knows what its turns would save


def test_long_batches_are_scored_on_the_engines_thread(serving):
    s = serving(WhereEngine(), fixed=1.0)
    s.submit(3)
    assert s.turn() is None
    s.turn_until_idle()
    s.check(1)
    assert LOOP not in s.engines[0].threads
    busy = s.counted()["ranker_engine_busy_seconds_total"]
    assert s.counted()["ranker_engine_load_seconds_total"] == busy - s.dispatcher.spare_seconds


@pytest.mark.parametrize(
    ("longest_batch", "on_the_loop"),
    [pytest.param(0.004, True, id="long"), pytest.param(0.0001, False, id="short")],
)
def test_the_transport_says_how_long_its_loop_may_be_kept(serving, longest_batch, on_the_loop):
    s = serving(WhereEngine(), fixed=0.001, longest_batch=longest_batch)
    s.submit(3)
    s.turn_until_idle()
    s.check(1)
    assert (s.engines[0].threads == [LOOP]) is on_the_loop


def test_the_engines_thread_goes_on_with_what_gathered(serving):
    release = threading.Event()

    class Slow(SumEngine):
        def score(self, blocks):
            release.wait(PATIENCE)
            return super().score(blocks)

    s = serving(Slow(), fixed=1.0)
    s.submit(3)
    s.turn()
    s.submit(4)
    s.submit(5)
    assert s.turn() is None
    release.set()
    s.turn_until_idle()
    s.check(3)
    assert s.engines[0].batches == [[3], [4, 5]]


def test_the_engine_has_its_next_batch_before_the_last_one_is_answered(serving):
    started = threading.Semaphore(0)

    class Told(SumEngine):
        def score(self, blocks):
            started.release()
            return super().score(blocks)

    def on_outcome(task, outcome) -> None:
        begun.append(started.acquire(timeout=PATIENCE))
        s.remember(task, outcome)

    begun: list[bool] = []
    s = serving(Told(), fixed=1.0)
    s.submit(3).on_outcome = on_outcome
    s.turn()
    assert started.acquire(timeout=PATIENCE)
    s.submit(4)
    s.turn_until_idle()
    s.check(2)
    assert begun == [True]


def test_the_loop_takes_over_again_when_batches_are_short(serving):
    s = serving(WhereEngine(), fixed=1.0)
    s.submit(3)
    s.turn_until_idle()
    s.cost.fixed = 0.0
    s.submit(3)
    s.turn_until_idle()
    s.check(2)
    assert s.engines[0].threads[1] == LOOP


def test_what_has_arrived_is_read_between_two_batches(serving):
    s = serving()
    s.submit(100)
    s.submit(5)
    assert s.turn() == 0.0
    s.check(1)
    s.submit(7)
    assert s.turn() is None
    assert s.engines[0].batches[1] == [5, 7]


@pytest.fixture
def clock(monkeypatch):
    """The clock of serving, in a list of one; it stands still unless a test moves it."""
    now = [1000.0]
    stopped = SimpleNamespace(monotonic=lambda: now[0])
    for module in ("dispatcher", "task", "wire"):
        monkeypatch.setattr(f"ranker.serving.{module}.time", stopped)
    monkeypatch.setattr("tests.serving.support.time", stopped)
    monkeypatch.setattr("tests.fakes.time", stopped)
    return now


class Slow(SumEngine):
    """An engine that takes a second."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self._clock = clock

    def score(self, blocks):
        self._clock[0] += 1.0
        return super().score(blocks)


def test_what_is_read_after_a_batch_on_the_loop_may_have_waited_for_its_end(serving, clock):
    s = serving(Slow(clock))
    s.submit(3)
    s.turn()
    s.cost.fixed, s.cost.per_row = 0.001, 0.0
    s.submit(3)
    now = clock[0]
    s.submit(3, deadline=now + 1.1)
    with pytest.raises(OverloadedError):
        s.submit(3, deadline=now + 0.9)
    with pytest.raises(OverloadedError):
        s.queue.check_unread(a_list(deadline=now + 0.9), now)
    clock[0] = now + 0.5  # the loop still reads
    with pytest.raises(OverloadedError):
        s.submit(3, deadline=now + 1.9)
    clock[0] = now + 1.01  # by now it has read what came in that second
    s.queue.check_unread(a_list(deadline=now + 1.1), clock[0])
    s.submit(3, deadline=now + 1.1)


def test_an_engine_that_was_done_sooner_than_predicted_is_idle(serving, clock):
    s = serving(fixed=0.003)
    s.submit(3)
    s.turn()
    assert not s.submit(3, deadline=clock[0] + 0.001).waited


def test_an_expired_list_is_dropped_unscored(serving):
    s = serving()
    s.submit(3, deadline=time.monotonic() - 1.0)
    s.submit(2)
    s.turn()
    s.check(1)
    assert [type(error) for error in s.refused] == [DeadlineError]
    assert s.engines[0].batches == [[2]]


def test_a_cancelled_list_is_dropped_unscored(serving):
    s = serving()
    s.submit(3).cancelled = True
    s.turn()
    assert [type(error) for error in s.refused] == [CancelledError]
    assert s.engines[0].batches == []


def test_a_full_queue_refuses(serving):
    s = serving(max_queue_rows=10)
    s.submit(8)
    with pytest.raises(OverloadedError, match="queue is full"):
        s.submit(8)
    s.turn()
    s.check(1)


def test_a_broken_engine_fails_its_batch_once_and_nothing_else(serving, caplog):
    s = serving(BrokenEngine())
    s.submit(3)
    s.submit(250)  # of which a part is still in the queue when the engine fails
    s.turn_until_idle()
    assert [type(error) for error in s.refused] == [InternalError] * 2
    assert "secret" not in s.refused[0].message
    assert "secret of the engine" in caplog.text
    s.engines[0].broken = False
    s.submit(4)
    s.turn()
    s.check(1)


def test_rows_for_which_there_is_no_memory_fail_their_batch_and_nothing_else(serving, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    s = serving()
    with monkeypatch.context() as patched:
        patched.setattr(RankTask, "rows_from", fail)
        s.submit(3)
        s.turn()
    assert [type(error) for error in s.refused] == [InternalError]
    s.submit(4)
    s.turn()
    s.check(1)


@pytest.mark.parametrize("fixed", [0.0, 1.0], ids=["on-the-loop", "on-the-engines-thread"])
@pytest.mark.parametrize("end", ["scored", "cancelled", "failed"])
def test_a_list_that_cannot_be_told_spoils_nothing_else(serving, caplog, fixed, end):
    def fail(*_: object) -> None:
        raise RuntimeError("nobody listens")

    engine = BrokenEngine()
    engine.broken = end == "failed"
    s = serving(engine, fixed=fixed)
    untold = s.submit(3)
    untold.on_outcome = fail
    untold.cancelled = end == "cancelled"
    s.submit(4)
    s.turn_until_idle()
    assert "nobody listens" in caplog.text
    engine.broken = False
    s.submit(5)
    s.turn_until_idle()
    assert len(s.answered) + len(s.refused) == 2
    assert s.dispatcher.idle()


def test_a_lost_engine_is_told_and_its_callers_may_ask_elsewhere(serving):
    engine = BrokenEngine()
    engine.error = EngineLostError
    s = serving(engine)
    s.submit(3)
    s.turn_until_idle()
    assert s.lost == 1
    [error] = s.refused
    assert isinstance(error, UnavailableError)
    assert "secret" not in error.message


def test_a_list_counts_once_in_every_batch_that_has_a_part_of_it(serving):
    s = serving(max_batch_rows=600)
    s.submit(900)  # 256 rows, then what room is left; the rest in a second batch
    s.submit(10)
    assert s.turn() == 0.0
    assert s.counted()["ranker_queue_rows"] == 310
    s.turn_until_idle()
    s.check(2)
    counted = s.counted()
    assert counted["ranker_queue_rows"] == 0
    assert counted["ranker_batch_requests"] == 2 + 1
    assert counted["ranker_batch_rows"] == counted["ranker_candidates_scored_total"] == 910


def test_a_batch_that_waits_for_company_goes_as_soon_as_it_is_full(serving):
    s = serving(fixed=1.0, max_batch_rows=10, max_delay=600.0)
    s.submit(13)
    s.turn()
    s.submit(7)  # with the 3 that are left
    s.turn_until_idle()
    s.check(2)


def test_max_batch_delay_asks_to_be_called_again(serving, clock):
    s = serving(max_delay=0.05)
    s.submit(3)
    clock[0] += 0.02
    pause = s.turn()
    assert 0.0 < pause <= 0.05
    clock[0] += pause
    assert s.turn() is None
    s.check(1)


def test_warming_teaches_what_a_batch_costs(serving):
    s = serving()
    s.models[0].warm()
    assert s.cost.predict(100) > 0.0
    assert s.engines[0].batches
