"""A dispatcher over an engine that works on two batches at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from ranker.engine.api import Rows, Scores
from ranker.errors import CancelledError, InternalError
from ranker.serving.admission import TooLateError
from ranker.serving.cost import CostModel
from ranker.serving.dispatcher import Dispatcher
from ranker.serving.queue import Batcher
from tests.fakes import INLINE, SumEngine
from tests.serving.test_dispatcher import Kitchen

WAIT = 10.0  # seconds after which a test that hangs fails


class Oven(SumEngine):
    """An engine that holds two batches, each until the test lets it out by its number of rows."""

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
        assert self.event(self.out, rows).wait(WAIT)
        with self._lock:
            self.inside -= 1
            if rows in self.broken:
                raise RuntimeError(f"burnt {rows}")
            return super().score(blocks)

    def has(self, rows: int) -> None:
        """Waits until a batch of so many rows is inside."""
        assert self.event(self.entered, rows).wait(WAIT)

    def let_out(self, rows: int) -> None:
        self.event(self.out, rows).set()


@contextmanager
def opened(**limits: float) -> Iterator[tuple[Kitchen, Oven]]:
    oven = Oven()
    kitchen = Kitchen(oven, fixed=1.0, **limits)
    try:
        yield kitchen, oven
    finally:
        for rows in range(300):
            oven.let_out(rows)
        kitchen.dispatcher.close()
        kitchen.recorder.close()


def wait_for(condition) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def start_two(k: Kitchen, oven: Oven) -> None:
    """Brings a batch of 3 rows and then one of 4 into the oven."""
    for rows in (3, 4):
        k.submit(rows)
        assert k.dispatcher.pump() is None
        oven.has(rows)


def test_an_engine_that_says_nothing_has_one_batch():
    assert SumEngine().batches_at_once == 1
    assert Oven().batches_at_once == 2


def test_the_second_batch_starts_while_the_first_one_runs():
    with opened() as (k, oven):
        start_two(k, oven)
        assert k.done == []
        oven.let_out(3)
        oven.let_out(4)
        wait_for(lambda: len(k.done) == 2)
        k.check(2)
        assert sorted(oven.batches) == [[3], [4]]


def test_while_two_run_the_third_gathers():
    with opened() as (k, oven):
        start_two(k, oven)
        for rows in (5, 6):
            k.submit(rows)
            assert k.dispatcher.pump() is None
        assert oven.most_inside == 2
        oven.let_out(3)
        oven.has(11)
        assert oven.most_inside == 2
        oven.let_out(4)
        oven.let_out(11)
        wait_for(lambda: len(k.done) == 4)
        k.check(4)
        assert sorted(oven.batches) == [[3], [4], [5, 6]]


def test_answers_come_in_the_order_of_the_batches():
    with opened() as (k, oven):
        start_two(k, oven)
        oven.let_out(4)
        wait_for(lambda: oven.inside == 1)
        assert k.done == []
        oven.let_out(3)
        wait_for(lambda: len(k.done) == 2)
        assert [len(scores) for _, scores in k.done] == [3, 4]


def test_a_list_in_both_batches_is_rejoined():
    with opened(max_batch_rows=100) as (k, oven):
        k.submit(170)
        assert k.dispatcher.pump() == 0.0
        assert k.dispatcher.pump() is None
        oven.has(100)
        oven.has(70)
        oven.let_out(70)
        wait_for(lambda: oven.inside == 1)
        assert k.done == []
        oven.let_out(100)
        wait_for(lambda: k.done)
        k.check(1)


@pytest.mark.parametrize("burnt", [3, 4])
def test_a_batch_that_fails_does_no_harm_to_the_other(burnt: int, caplog):
    with opened() as (k, oven):
        start_two(k, oven)
        oven.broken = {burnt}
        oven.let_out(3)
        oven.let_out(4)
        wait_for(lambda: len(k.done) + len(k.dropped) == 2)
        assert [type(error) for error in k.dropped] == [InternalError]
        assert [len(scores) for _, scores in k.done] == [7 - burnt]
        k.check(1)
        assert f"burnt {burnt}" in caplog.text
        oven.broken = set()
        oven.let_out(5)
        k.submit(5)
        assert k.dispatcher.pump() is None
        wait_for(lambda: len(k.done) == 2)


@pytest.mark.parametrize(
    ("broken", "first"),
    [
        pytest.param({100}, 100, id="first-fails"),
        pytest.param({70}, 100, id="second-fails"),
        pytest.param({100, 70}, 70, id="both-fail"),
    ],
)
def test_a_list_with_a_part_in_a_failed_batch_fails_once(broken: set[int], first: int):
    with opened(max_batch_rows=100) as (k, oven):
        k.submit(170)
        k.dispatcher.pump()
        k.dispatcher.pump()
        oven.has(70)
        oven.broken = broken
        oven.let_out(first)
        oven.let_out(170 - first)
        wait_for(k.dispatcher.idle)
        assert [type(error) for error in k.dropped] == [InternalError]
        assert k.done == []


def test_a_cancelled_list_ends_once_though_a_part_of_it_fails():
    with opened(max_batch_rows=100) as (k, oven):
        job = k.submit(170)
        k.dispatcher.pump()
        oven.has(100)
        job.cancelled = True
        k.submit(5)
        k.dispatcher.pump()
        oven.has(5)
        oven.broken = {100}
        oven.let_out(100)
        oven.let_out(5)
        wait_for(k.dispatcher.idle)
        assert [type(error) for error in k.dropped] == [CancelledError]
        k.check(1)


def test_draining_waits_for_both():
    with opened() as (k, oven):
        start_two(k, oven)
        assert not k.dispatcher.idle()
        oven.let_out(3)
        wait_for(lambda: len(k.done) == 1)
        assert not k.dispatcher.idle()
        oven.let_out(4)
        wait_for(k.dispatcher.idle)
        k.check(2)


def test_closing_waits_for_both():
    with opened() as (k, oven):
        start_two(k, oven)
        closing = threading.Thread(target=k.dispatcher.close)
        closing.start()
        oven.let_out(4)
        oven.let_out(3)
        closing.join(WAIT)
        assert not closing.is_alive()
        k.check(2)


def test_admission_counts_both_batches_in_flight():
    with opened() as (k, oven):
        k.cost.fixed = 100.0
        start_two(k, oven)
        now = time.monotonic()
        with pytest.raises(TooLateError):
            k.submit(5, deadline=now + 150.0)  # the two in flight are predicted to take 200 s
        k.submit(6, deadline=now + 1000.0)


def test_time_that_two_batches_share_is_counted_once():
    with opened() as (k, oven):
        began = time.monotonic()
        start_two(k, oven)
        oven.let_out(3)
        oven.let_out(4)
        wait_for(k.dispatcher.idle)
        wall = time.monotonic() - began
        busy = k.counted()["ranker_engine_busy_seconds_total"]
        assert 0.0 < busy <= wall
        assert k.counted()["ranker_scoring_duration_seconds"] == pytest.approx(busy)


def test_short_batches_stay_on_the_loops_thread():
    oven = Oven()
    k = Kitchen(oven)
    oven.let_out(3)
    k.submit(3)
    assert k.dispatcher.pump() is None
    assert k.threads == {threading.get_ident()}
    k.dispatcher.close()
    k.recorder.close()


def test_beside_an_engine_without_overlap_batches_stay_apart():
    """Two at once would compete for that engine's core."""
    with opened() as (k, oven):
        k.dispatcher.close()
        limits = {"max_batch_rows": 100, "max_queue_rows": 1000, "max_queue_bytes": 10**9}
        batcher = Batcher([k.cost, CostModel()], **limits)
        k.dispatcher = Dispatcher([oven, SumEngine()], batcher, k.recorder, lambda: None, INLINE)
        for rows in (3, 4):
            k.submit(rows)
            assert k.dispatcher.pump() is None
        oven.has(3)
        oven.let_out(3)
        oven.has(4)
        oven.let_out(4)
        wait_for(k.dispatcher.idle)
        k.check(2)
        assert oven.most_inside == 1


def test_many_lists_through_two_lanes_come_out_right():
    class Fast(SumEngine):
        batches_at_once = 2

        def score(self, blocks: Sequence[Rows]) -> Scores:
            return np.concatenate([block.sum(axis=1, dtype=np.float32) for block in blocks])

    k = Kitchen(Fast(), fixed=1.0, max_queue_rows=10**6)
    for i in range(200):
        k.submit(1 + 37 * i % 250)
        k.dispatcher.pump()
    wait_for(lambda: k.dispatcher.pump() is None and k.dispatcher.idle())
    k.check(200)
    k.dispatcher.close()
    k.recorder.close()
