"""A worker's utilisation is its load over its capacity, however many lists its turns have."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product
from statistics import median

import pytest

from ranker.metrics import catalogue
from ranker.metrics.recorder import Recorder
from ranker.serving.loop_load import LoopLoad
from tests.metrics.support import new_aggregates

LEARNING_LISTS, LISTS = 5_000, 20_000
MOST_LISTS = FULL_TURN = 64
BATCH_ROWS = 1024


def full_turn(rows: int) -> float:
    """Lists of so many candidates that a full turn has."""
    return min(FULL_TURN, BATCH_ROWS / rows)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(new_aggregates())
    yield recorder
    recorder.close()


def load_of(
    recorder: Recorder,
    whole_turns: bool = True,
    now: float = 0.0,
    cores: float = 1.0,
    cpu: Callable[[], float] = lambda: 0.0,
) -> LoopLoad:
    """The load of a loop whose process takes no CPU time but what is said."""
    return LoopLoad(recorder, recorder.waited, FULL_TURN, whole_turns, now, cores, cpu)


class SimulatedLoop:
    """Lists arrive at random; each turn takes all that wait, and the longer the more they are."""

    def __init__(
        self, recorder: Recorder, fixed: float, each: float, spread: float, rows: int = 10
    ) -> None:
        self.rows = rows
        self.recorder = recorder
        [self._worked] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
        self.cost: Callable[[int], float] = lambda lists: fixed + each * lists
        self._spread = spread
        self.wake = self.piece = 0.0  # what a rest costs; and a turn before it for each list
        self.held_up = 0.0  # the part of the turns that take ten times as long
        self._random = random.Random(1)
        self._load = load_of(recorder)
        self.now = 0.0
        self.scored = 0

    def worked(self) -> float:
        return self.recorder._cells[self._worked]

    def run(self, rate: float, seconds: float) -> float:
        """The utilisation at so many lists a second."""
        chance, end, before = self._random, self.now + seconds, self.worked()
        began, waiting = self.now, 0
        arrival = self.now + chance.expovariate(rate)
        while self.now < end:
            while arrival <= self.now or not waiting:
                if arrival > self.now:
                    self._wait(arrival - self.now)
                    if self.piece:
                        self._end_turn(self.wake + self.piece)
                        self._wait(200e-6)
                    self.now += self.wake
                waiting += 1
                arrival += chance.expovariate(rate)
            lists = min(waiting, MOST_LISTS, max(1, BATCH_ROWS // self.rows))
            waiting -= lists
            self._turn(lists)
        return (self.worked() - before) / (self.now - began)

    def closed(self, callers: int, seconds: float) -> float:
        """The utilisation if so many callers ask again as soon as they are answered."""
        began, before = self.now, self.worked()
        while self.now < began + seconds:
            self._turn(callers)
        return (self.worked() - before) / (self.now - began)

    def _turn(self, lists: int) -> None:
        noise = self._random.lognormvariate(-(self._spread**2) / 2, self._spread)
        if self._random.random() < self.held_up:
            noise += 10.0
        self.scored += lists
        self._end_turn(self.cost(lists) * noise)

    def _wait(self, seconds: float) -> None:
        self.recorder.waited[0] += seconds
        self.now += seconds

    def _end_turn(self, seconds: float) -> None:
        self.now += seconds
        self._load.on_turn_end(self.now, self.scored, self.scored * self.rows, BATCH_ROWS)


class SimulatedLoopOfCalls:
    """A turn sends what was scored in the last one, and then reads one list, or else scores.

    It wakes up in a turn of its own. Where there is something to do in spare time a turn that has
    nothing else to do takes some of it, in place of waiting.
    """

    WAKE, READ, SCORE_EACH, SEND = 150e-6, 150e-6, 50e-6, 100e-6

    def __init__(self, recorder: Recorder, spare: float, score: float) -> None:
        self._recorder = recorder
        self._score = score
        each = self.READ + self.SCORE_EACH + self.SEND
        self.capacity = FULL_TURN / (self.WAKE + score + FULL_TURN * each)
        [self._worked] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
        self._spare = spare
        self._random = random.Random(2)
        self.now = self._cpu = 0.0
        self._load = load_of(recorder, whole_turns=False, cpu=lambda: self._cpu)
        self._scored = 0

    def run(self, rate: float, seconds: float) -> float:
        """The utilisation at so many lists a second."""
        began, before = self.now, self._recorder._cells[self._worked]
        arrival = self.now + self._random.expovariate(rate)
        waiting = read = scored = 0
        while self.now < began + seconds:
            if arrival > self.now and not (waiting or read or scored):
                if self._spare:
                    self._work(self._spare)
                    self._load.leave_out(self._spare)
                else:
                    self._recorder.waited[0] += arrival - self.now
                    self.now = arrival
                    self._work(self.WAKE)
            while arrival <= self.now:
                waiting += 1
                arrival += self._random.expovariate(rate)
            self._work(scored * self.SEND)
            scored = 0
            if waiting and read < FULL_TURN:
                self._work(self.READ)
                waiting, read = waiting - 1, read + 1
            elif read:
                self._work(self._score + read * self.SCORE_EACH)
                scored, read = read, 0
                self._scored += scored
            self._load.on_turn_end(self.now, self._scored, self._scored * 10, BATCH_ROWS)
        return (self._recorder._cells[self._worked] - before) / (self.now - began)

    def _work(self, seconds: float) -> None:
        self.now += seconds
        self._cpu += seconds


@pytest.mark.parametrize(
    ("share", "spare", "score"),
    [
        *((share, 0.0, 100e-6) for share in (0.2, 0.4, 0.6, 0.8, 1.0)),
        pytest.param(0.6, 50e-6, 100e-6, id="spare-time-is-used"),
        pytest.param(0.6, 0.0, 300e-6, id="batches-that-cost-as-much-as-a-list"),
    ],
)
def test_utilisation_where_a_list_has_work_in_several_turns(recorder, share, spare, score):
    loop = SimulatedLoopOfCalls(recorder, spare, score)
    loop.run(1.2 * loop.capacity, 3.0)
    loop.run(share * loop.capacity, 3.0)
    assert loop.run(share * loop.capacity, 5.0) == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 1.0, 1.5])
@pytest.mark.parametrize(
    ("rows", "fixed", "each"),
    [
        pytest.param(10, 180e-6, 60e-6, id="short-lists"),
        pytest.param(100, 180e-6, 120e-6, id="lists-of-a-hundred"),
        pytest.param(1000, 100e-6, 800e-6, id="lists-of-a-thousand"),
        pytest.param(1000, 600e-6, 300e-6, id="lists-of-a-thousand-that-are-a-batch-each"),
        pytest.param(10, 1e-3, 2e-3, id="slow-engine"),
        pytest.param(10, 2e-3, 150e-6, id="engine-that-gains-by-large-batches"),
    ],
)
def test_utilisation_is_load_over_capacity(recorder, rows, fixed, each, share):
    loop = SimulatedLoop(recorder, fixed, each, spread=0.3, rows=rows)
    full = full_turn(rows)
    capacity = full / (fixed + each * full)
    loop.run(share * capacity, LEARNING_LISTS / capacity)
    assert loop.run(share * capacity, LISTS / capacity) == pytest.approx(min(share, 1.0), abs=0.1)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_what_a_rest_costs_is_no_load(recorder, share):
    loop = SimulatedLoop(recorder, 100e-6, 1e-3, spread=0.2, rows=1000)
    loop.wake, loop.piece = 200e-6, 200e-6
    capacity = 1 / loop.cost(1)
    loop.run(1.2 * capacity, 2.0)
    assert loop.run(share * capacity, 10.0) == pytest.approx(share, abs=0.05)


def test_turns_without_lists_long_ago_are_none_of_a_list():
    worked = []
    for seconds in (0.0, 0.5):
        recorder = Recorder(new_aggregates())
        loop = SimulatedLoop(recorder, 100e-6, 1e-3, spread=0.0)
        loop.wake = 200e-6
        loop._end_turn(seconds)
        loop._wait(1.0)
        loop.run(300.0, 1.0)
        worked.append(loop.worked() - seconds)
        recorder.close()
    assert worked[1] == pytest.approx(worked[0], rel=0.01)


def test_turns_that_were_held_up_are_not_taken_for_what_larger_ones_save():
    errors: dict[float, list[float]] = {0.0: [], 0.03: []}
    for held_up, seed in product(errors, range(7)):
        recorder = Recorder(new_aggregates())
        loop = SimulatedLoop(recorder, 200e-6, 58e-6, 0.1)
        loop._random = random.Random(seed)
        capacity = FULL_TURN / loop.cost(FULL_TURN)
        loop.run(1.2 * capacity, 1.0)  # else those that are held up make the first large turns
        loop.held_up = held_up
        loop.run(0.5 * capacity, 3.0)
        loop.held_up = 0.0
        began, scored = loop.now, loop.scored
        utilisation = loop.run(0.7 * capacity, 0.3)
        load = (loop.scored - scored) / capacity / (loop.now - began)
        errors[held_up].append(utilisation - load)
        recorder.close()
    usual, disturbed = map(median, errors.values())
    assert disturbed == pytest.approx(usual, abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_what_full_turns_take_is_remembered_while_there_are_small_ones(recorder, share):
    """The lists of a large turn take less than more lists of a small one would make one expect."""
    loop = SimulatedLoop(recorder, 0.0, 0.0, 0.3)
    loop.cost = lambda lists: 150e-6 + 170e-6 * min(lists, 8) + 80e-6 * max(0, lists - 8)
    capacity = FULL_TURN / loop.cost(FULL_TURN)
    loop.run(1.2 * capacity, 2.0)
    assert loop.run(share * capacity, 10.0) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("each", [5e-6, 3e-3])
def test_it_follows_lists_that_change(recorder, each):
    loop = SimulatedLoop(recorder, 180e-6, 60e-6, 0.1)
    capacity = FULL_TURN / loop.cost(FULL_TURN)
    loop.run(capacity, 2.0)
    loop.cost = lambda lists: 180e-6 + each * lists
    capacity = FULL_TURN / loop.cost(FULL_TURN)
    loop.run(0.3 * capacity, 3.0)
    assert loop.run(0.3 * capacity, 5.0) == pytest.approx(0.3, abs=0.1)


def test_it_follows_a_load_that_changes(recorder):
    loop = SimulatedLoop(recorder, 180e-6, 60e-6, 0.1)
    capacity = FULL_TURN / (180e-6 + 60e-6 * FULL_TURN)
    for share in (0.2, 0.8, 0.3):
        assert loop.run(share * capacity, 3.0) == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("sizes", [(2, 32), (1, 1, 30), (24, 1)], ids=str)
def test_turns_that_alternate_are_all_learned_of(recorder, sizes):
    loop = SimulatedLoop(recorder, 150e-6, 40e-6, 0.0)
    for _ in range(2000):
        for lists in sizes:
            loop._turn(lists)
    before, began = loop.worked(), loop.now
    for _ in range(2000):
        for lists in sizes:
            loop._turn(lists)
    enough = max(30, *sizes)  # the fixed cost is an eighth of what so many lists take, or less
    share = sum(sizes) / enough * loop.cost(enough) / sum(map(loop.cost, sizes))
    assert (loop.worked() - before) / (loop.now - began) == pytest.approx(share, abs=0.01)


def test_full_turns_one_after_the_other_are_all_there_is(recorder):
    loop = SimulatedLoop(recorder, 180e-6, 60e-6, 0.0)
    loop.run(3000.0, 1.0)
    assert loop.closed(FULL_TURN, 2.0) == pytest.approx(1.0, abs=0.01)


def test_models_whose_batches_may_not_be_as_large_are_told_apart(recorder):
    load = load_of(recorder)
    [cell] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
    now = scored = 0

    def turn(lists: int, most_rows: int) -> float:
        nonlocal now, scored
        before = recorder._cells[cell]
        now, scored = now + 100e-6 + 10e-6 * lists, scored + lists
        load.on_turn_end(now, scored, 10 * scored, most_rows)
        return recorder._cells[cell] - before

    for _ in range(3000):
        turn(FULL_TURN, 640)
        turn(1, 640)
    worked = [(turn(1, 10), turn(1, 640)) for _ in range(1000)]
    assert min(small for small, _ in worked) == pytest.approx(110e-6)  # a batch is full
    assert max(large for _, large in worked) < 55e-6


def test_a_few_callers_do_not_fill_it_though_it_never_waits(recorder):
    loop = SimulatedLoop(recorder, 180e-6, 60e-6, 0.0)
    loop.run(3000.0, 1.0)
    assert loop.closed(2, 2.0) < 0.5


def test_turns_without_a_list_count_in_full(recorder):
    load = load_of(recorder, now=10.0)
    load.on_turn_end(10.5, 0, 0, BATCH_ROWS)
    recorder.waited[0] += 0.25
    load.on_turn_end(11.0, 0, 0, BATCH_ROWS)
    [place] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
    assert recorder._cells[place] == 0.75


def test_what_there_was_time_to_spare_for_is_no_load(recorder):
    [worked] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
    load = load_of(recorder, now=10.0)
    recorder.waited[0] += 0.5
    load.leave_out(1.25)
    load.on_turn_end(12.0, 0, 0, BATCH_ROWS)
    assert recorder._cells[worked] == 0.25
    load.on_turn_end(12.25, 0, 0, BATCH_ROWS)
    assert recorder._cells[worked] == 0.5


def test_where_lists_have_work_in_several_turns_what_never_rests_counts_in_full(recorder):
    [worked] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
    load, scored = load_of(recorder, whole_turns=False), 0
    for turn in range(1, 6401):
        scored += 1 + turn % 3
        load.on_turn_end(0.01 * turn, scored, 10 * scored, BATCH_ROWS)
    assert recorder._cells[worked] == pytest.approx(64.0, rel=0.02)


@pytest.mark.parametrize(
    ("cores", "cpu", "busy"),
    [
        pytest.param(1.0, 0.9, 0.9, id="gRPC-reads-while-the-loop-waits"),
        pytest.param(1.0, 0.1, 0.4, id="others-have-the-core"),
        pytest.param(0.5, 0.4, 0.8, id="half-a-core"),
        pytest.param(4.0, 1.2, 0.4, id="threads-on-other-cores"),
    ],
)
def test_cpu_time_counts_where_it_is_more(recorder, cores, cpu, busy):
    [worked] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
    taken = [7.0, 7.0 + cpu]
    load = load_of(recorder, cores=cores, cpu=lambda: taken.pop(0))
    recorder.waited[0] += 0.6
    load.on_turn_end(1.0, 1, 10, BATCH_ROWS)
    assert recorder._cells[worked] == pytest.approx(busy)


def test_what_larger_batches_would_save_of_the_engines_threads_is_no_load(recorder):
    [worked] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
    taken = [7.0, 7.75, 8.5]
    load = load_of(recorder, cpu=lambda: taken.pop(0))
    for turn in (1, 2):
        recorder.waited[0] += 0.75
        load.on_turn_end(1.0 * turn, turn, 10 * turn, BATCH_ROWS, 0.25 * turn)
    assert recorder._cells[worked] == pytest.approx(1.0)


def test_cpu_time_that_there_was_to_spare_is_no_load(recorder):
    [worked] = recorder._aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
    taken = [7.0, 8.25]
    load = load_of(recorder, cpu=lambda: taken.pop(0))
    recorder.waited[0] += 1.25
    load.leave_out(1.0)
    load.on_turn_end(2.5, 0, 0, BATCH_ROWS)
    assert recorder._cells[worked] == 0.25
