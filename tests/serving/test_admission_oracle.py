"""Admission against an oracle: at half load, with pauses, next to nothing is refused in vain."""

from __future__ import annotations

import bisect
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.serving.admission import RefusedError
from tests.serving.lists import ModelsQueue, WaitingList, a_list, costing, make

SECONDS = 4.0
READING = 50e-6
"""Seconds that the loop needs to read a list, and to answer it."""


@dataclass
class Offered:
    """What comes, and when the machine pauses: the same for whoever serves it."""

    lists: list[tuple[float, int, float]]
    """When each comes, its rows, and the seconds that its caller waits."""
    pauses: list[tuple[float, float]]
    """When each begins, and its seconds."""

    def end_of(self, began: float, seconds: float) -> float:
        """When work that takes so long is done, if it begins then."""
        end = began + seconds
        first = bisect.bisect_left(self.pauses, (began - 0.05, 0.0))
        for pause, length in self.pauses[first:]:
            if pause >= end:
                break
            end += max(0.0, pause + length - max(pause, began))
        return end


@dataclass
class Served:
    """By their numbers: what was answered in time, and what was refused on arrival."""

    in_time: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)


def serve(offered: Offered, per_row: float, fixed: float, *, refuses: bool) -> Served:
    """The loop, which reads what has come, and scores a batch.

    Where it does not refuse, it drops what can't be answered in time as it takes a batch: it
    knows the costs, and the pauses to come.
    """
    served, waiting = Served(), dict[int, WaitingList]()
    queue: ModelsQueue = make(costs=[costing(fixed, per_row)])
    now, numbers = 0.0, dict[int, int]()
    arrivals = iter(enumerate(offered.lists))
    coming = next(arrivals, None)
    while coming is not None or queue.rows:
        if not queue.rows and coming is not None and coming[1][0] > now:
            now = coming[1][0]
        now = offered.end_of(now, 0.0)
        while coming is not None and coming[1][0] <= now:
            number, (arrived, rows, patience) = coming
            now = offered.end_of(now, READING)
            # gRPC counts a deadline from when it reads it.
            read = now if refuses else arrived
            each = a_list(rows, deadline=read + patience, arrived=arrived)
            numbers[id(each)], waiting[number] = number, each
            try:
                if refuses:
                    queue.put(each, now=now)
                else:
                    each.batcher = queue.batchers[0]
                    each.batcher.add(each)
                    queue._batchers[each.batcher] = None
                    queue.rows += rows
            except RefusedError:
                served.refused.add(number)
            coming = next(arrivals, None)
        batch = queue.take(now)
        if batch is None or not batch.pieces:
            continue
        if not refuses:
            end = offered.end_of(now, fixed + per_row * batch.rows)
            hopeless = {id(each) for each, _, _ in batch.pieces if end > each.deadline}
            kept = [piece for piece in batch.pieces if id(piece[0]) not in hopeless]
            batch.pieces, batch.rows = kept, sum(stop - start for _, start, stop in kept)
            if not kept:
                continue
        began = now
        now = offered.end_of(began, fixed + per_row * batch.rows)
        queue.batchers[0].cost.observe(batch.rows, now - began)
        queue.unread_since, queue.read_until = began, now + (now - began)
        for each, _, stop in batch.pieces:
            if stop == each.rows:
                number = numbers[id(each)]
                in_time = now <= offered.lists[number][0] + offered.lists[number][2]
                if in_time:
                    served.in_time.add(number)
                if each.waited:
                    queue.admission.on_end(in_time=in_time)
    return served


def half_load(seed: int, per_row: float, fixed: float, rows: tuple[int, ...], patience: float):
    """Lists that come at random, half of what can be served, and a pause every half second."""
    chance = random.Random(seed)
    each = READING + fixed / 8 + per_row * sum(rows) / len(rows)
    lists, now = [], 0.0
    while now < SECONDS:
        now += chance.expovariate(0.5 / each)
        lists.append((now, chance.choice(rows), patience * chance.uniform(1.0, 3.0)))
    pauses, now = [], 0.0
    while now < SECONDS:
        now += chance.expovariate(2.0) + 0.05
        pauses.append((now, chance.uniform(0.005, 0.05)))
    return Offered(lists, pauses)


def refused_in_vain(offered: Offered, per_row: float, fixed: float) -> float:
    """The share of what the oracle answers in time that was refused."""
    ours = serve(offered, per_row, fixed, refuses=True)
    oracle = serve(offered, per_row, fixed, refuses=False)
    assert oracle.in_time
    return len(ours.refused & oracle.in_time) / len(oracle.in_time)


@pytest.mark.parametrize("patience", [0.05, 0.2], ids="{:g}s".format)
@pytest.mark.parametrize(
    ("per_row", "fixed", "rows"),
    [
        pytest.param(0.4e-6, 20e-6, (10,), id="short-lists"),
        pytest.param(0.4e-6, 20e-6, (100,), id="lists-of-a-hundred"),
        pytest.param(0.4e-6, 20e-6, (10, 100, 1000), id="mixed"),
        pytest.param(15e-6, 100e-6, (100,), id="slow-engine"),
    ],
)
def test_less_than_one_in_a_hundred_is_refused_in_vain(per_row, fixed, rows, patience):
    offered = half_load(1, per_row, fixed, rows, patience)
    assert refused_in_vain(offered, per_row, fixed) < 0.01


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(2, 2**16), per_row=st.sampled_from([1e-6, 5e-6, 20e-6]))
def test_whatever_the_pauses(seed, per_row):
    offered = half_load(seed, per_row, 100e-6, (50, 200), 0.1)
    assert refused_in_vain(offered, per_row, 100e-6) < 0.01


def test_the_check_can_fail():
    """A queue whose pace is off refuses most of what could be served."""
    offered = half_load(1, 15e-6, 100e-6, (100,), 0.05)
    oracle = serve(offered, 15e-6, 100e-6, refuses=False)
    wrong = [(at, rows, patience / 1e4) for at, rows, patience in offered.lists]
    ours = serve(Offered(wrong, offered.pauses), 15e-6, 100e-6, refuses=True)
    assert len(ours.refused & oracle.in_time) > 0.01 * len(oracle.in_time)
