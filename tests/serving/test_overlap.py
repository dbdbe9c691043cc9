"""A dispatcher over an engine that works on two batches at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from ranker.engine.api import Rows, Scores
from ranker.errors import CancelledError, InternalError
from ranker.serving.admission import TooLateError
from tests.fakes import SumEngine
from tests.serving.support import Serving
from tests.waiting import PATIENCE


class TwoBatches(SumEngine):
    """An engine that keeps two batches, each until the test releases it by its number of rows."""

    batches_at_once = 2

    def __init__(self) -> None:
        super().__init__()
        self.entered: dict[int, threading.Event] = {}
        self.out: dict[int, threading.Event] = {}
        self.broken: set[int] = set()
        self.inside = self.most_inside = 0
        self._lock = threading.Lock()

    def event(self, kind: dict[int, threading.Event], rows: int) -> threading.Event:
        with self._lock:
            return kind.setdefault(rows, threading.Event())

    def score(self, blocks: Sequence[Rows]) -> Scores:
        rows = sum(map(len, blocks))
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        self.event(self.entered, rows).set()
        assert self.event(self.out, rows).wait(PATIENCE)
        with self._lock:
            self.inside -= 1
            if rows in self.broken:
                raise RuntimeError(f"failed {rows}")
            return super().score(blocks)

    def has(self, rows: int) -> bool:
        """Whether a batch of so many rows has come."""
        return self.event(self.entered, rows).is_set()

    def wait_for(self, rows: int) -> None:
        """Waits until a batch of so many rows has come."""
        assert self.event(self.entered, rows).wait(PATIENCE)

    def release(self, rows: int) -> None:
        self.event(self.out, rows).set()


@pytest.fixture
def overlapping(serving) -> Iterator[Callable[..., tuple[Serving, TwoBatches]]]:
    """Serving over such an engine, in which every batch is a long one."""
    engine = TwoBatches()

    def make(**limits) -> tuple[Serving, TwoBatches]:
        return serving(engine, fixed=1.0, **limits), engine

    yield make
    for rows in range(300):
        engine.release(rows)


def start_two(s: Serving, engine: TwoBatches) -> None:
    """Brings a batch of 3 rows and then one of 4 into the engine."""
    for rows in (3, 4):
        s.submit(rows)
        assert s.turn() is None
        engine.wait_for(rows)


def test_an_engine_that_says_nothing_has_one_batch():
    assert SumEngine().batches_at_once == 1
    assert TwoBatches().batches_at_once == 2


def test_the_second_batch_starts_while_the_first_one_runs(overlapping):
    s, engine = overlapping()
    start_two(s, engine)
    assert s.answered == []
    engine.release(3)
    engine.release(4)
    s.turn_until(lambda: len(s.answered) == 2)
    s.check(2)
    assert sorted(engine.batches) == [[3], [4]]


def test_while_two_run_the_third_gathers(overlapping):
    s, engine = overlapping()
    start_two(s, engine)
    for rows in (5, 6):
        s.submit(rows)
        assert s.turn() is None
    assert engine.most_inside == 2
    engine.release(3)
    s.turn_until(lambda: engine.has(11))
    assert engine.most_inside == 2
    engine.release(4)
    engine.release(11)
    s.turn_until(lambda: len(s.answered) == 4)
    s.check(4)
    assert sorted(engine.batches) == [[3], [4], [5, 6]]


def test_answers_come_in_the_order_of_the_batches(overlapping):
    s, engine = overlapping()
    start_two(s, engine)
    engine.release(4)
    s.turn_until(lambda: engine.inside == 1)
    assert s.answered == []
    engine.release(3)
    s.turn_until(lambda: len(s.answered) == 2)
    assert [len(scores) for _, scores in s.answered] == [3, 4]


def test_a_list_in_both_batches_is_rejoined(overlapping):
    s, engine = overlapping(max_batch_rows=100)
    s.submit(170)
    assert s.turn() == 0.0
    assert s.turn() is None
    engine.wait_for(100)
    engine.wait_for(70)
    engine.release(70)
    s.turn_until(lambda: engine.inside == 1)
    assert s.answered == []
    engine.release(100)
    s.turn_until(lambda: s.answered)
    s.check(1)


@pytest.mark.parametrize("failed", [3, 4])
def test_a_batch_that_fails_does_no_harm_to_the_other(overlapping, failed: int, caplog):
    s, engine = overlapping()
    start_two(s, engine)
    engine.broken = {failed}
    engine.release(3)
    engine.release(4)
    s.turn_until(lambda: len(s.answered) + len(s.refused) == 2)
    assert [type(error) for error in s.refused] == [InternalError]
    assert [len(scores) for _, scores in s.answered] == [7 - failed]
    s.check(1)
    assert f"failed {failed}" in caplog.text
    engine.broken = set()
    engine.release(5)
    s.submit(5)
    assert s.turn() is None
    s.turn_until(lambda: len(s.answered) == 2)


@pytest.mark.parametrize(
    ("broken", "first"),
    [
        pytest.param({100}, 100, id="first-fails"),
        pytest.param({70}, 100, id="second-fails"),
        pytest.param({100, 70}, 70, id="both-fail"),
    ],
)
def test_a_list_with_a_part_in_a_failed_batch_fails_once(overlapping, broken: set[int], first: int):
    s, engine = overlapping(max_batch_rows=100)
    s.submit(170)
    s.turn()
    s.turn()
    engine.wait_for(70)
    engine.broken = broken
    engine.release(first)
    engine.release(170 - first)
    s.turn_until(s.dispatcher.idle)
    assert [type(error) for error in s.refused] == [InternalError]
    assert s.answered == []


def test_a_cancelled_list_ends_once_though_a_part_of_it_fails(overlapping):
    s, engine = overlapping(max_batch_rows=100)
    task = s.submit(170)
    s.turn()
    engine.wait_for(100)
    task.cancelled = True
    s.submit(5)
    s.turn()
    engine.wait_for(5)
    engine.broken = {100}
    engine.release(100)
    engine.release(5)
    s.turn_until(s.dispatcher.idle)
    assert [type(error) for error in s.refused] == [CancelledError]
    s.check(1)


def test_draining_waits_for_both(overlapping):
    s, engine = overlapping()
    start_two(s, engine)
    assert not s.dispatcher.idle()
    engine.release(3)
    s.turn_until(lambda: len(s.answered) == 1)
    assert not s.dispatcher.idle()
    engine.release(4)
    s.turn_until(s.dispatcher.idle)
    s.check(2)


def test_admission_counts_both_batches_in_flight(overlapping):
    s, engine = overlapping()
    s.cost.fixed = 100.0
    start_two(s, engine)
    now = time.monotonic()
    with pytest.raises(TooLateError):
        s.submit(5, deadline=now + 150.0)  # the two in flight are predicted to take 200 s
    s.submit(6, deadline=now + 1000.0)


def test_time_that_two_batches_share_is_counted_once(overlapping):
    s, engine = overlapping()
    began = time.monotonic()
    start_two(s, engine)
    engine.release(3)
    engine.release(4)
    s.turn_until(s.dispatcher.idle)
    wall = time.monotonic() - began
    busy = s.counted()["ranker_engine_busy_seconds_total"]
    assert 0.0 < busy <= wall
    assert s.counted()["ranker_scoring_duration_seconds"] == pytest.approx(busy)


def test_short_batches_stay_on_the_loops_thread(serving):
    class Where(SumEngine):
        batches_at_once = 2

        def score(self, blocks: Sequence[Rows]) -> Scores:
            threads.append(threading.get_ident())
            return super().score(blocks)

    threads: list[int] = []
    s = serving(Where())
    s.submit(3)
    assert s.turn() is None
    assert threads == [threading.get_ident()]


def test_beside_an_engine_without_overlap_batches_stay_apart(serving):
    """Two at once would compete for that engine's core."""
    engine = TwoBatches()
    s = serving(engine, SumEngine(), fixed=1.0)
    for rows in (3, 4):
        s.submit(rows)
        assert s.turn() is None
    engine.wait_for(3)
    engine.release(3)
    s.turn_until(lambda: engine.has(4))
    engine.release(4)
    s.turn_until_idle()
    s.check(2)
    assert engine.most_inside == 1


def test_many_lists_come_out_right(serving):
    class Fast(SumEngine):
        batches_at_once = 2

        def score(self, blocks: Sequence[Rows]) -> Scores:
            return np.concatenate([block.sum(axis=1, dtype=np.float32) for block in blocks])

    s = serving(Fast(), fixed=1.0, max_queue_rows=10**6)
    for i in range(200):
        s.submit(1 + 37 * i % 250)
        s.turn()
    s.turn_until_idle()
    s.check(200)
