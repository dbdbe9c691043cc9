"""A simulated server under loads up to several times its capacity, on a simulated clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest

from ranker.batcher import Batcher, Job
from ranker.cost import CostModel
from ranker.errors import OverloadedError

SECONDS = 6.0
ROWS = 100
MAX_BATCH_ROWS = 1024
DEADLINE = 0.05
REFUSALS_PER_TURN = 2
UNREAD_CALLS = 32


@dataclass(frozen=True)
class Machine:
    """What things really take, in seconds."""

    per_row: float = 1.2e-6
    per_batch: float = 1e-5
    read: float = 3e-5
    answer: float = 2e-5
    refuse: float = 2e-5
    turn_away: float = 5e-6  # what gRPC itself needs to refuse a call that nobody reads
    stall: float = 0.0  # mean of a stall, of which there are 20 a second

    @property
    def capacity(self) -> float:
        lists = MAX_BATCH_ROWS // ROWS
        return 1.0 / (self.per_row * ROWS + self.read + self.answer + self.per_batch / lists)


@dataclass
class Outcome:
    good: int = 0
    late: int = 0
    refused: int = 0
    turned_away: int = 0
    expired: int = 0

    @property
    def goodput(self) -> float:
        return self.good / SECONDS


def simulate(machine: Machine, load: float, seed: int = 0) -> Outcome:
    """One loop: read what has arrived, score one batch, answer it, and again.

    As the core transport does it: a turn ends with its REFUSALS_PER_TURN-th
    refusal, and of what is not read meanwhile, gRPC keeps so many.
    """
    random = np.random.default_rng(seed)
    rate = load * machine.capacity
    arrivals = np.cumsum(random.exponential(1.0 / rate, int(1.5 * rate * SECONDS) + 100))
    stalls = np.cumsum(random.exponential(0.05, 10_000))
    cost = CostModel()
    for rows in (1, 256, 16):
        cost.observe(rows, machine.per_batch + rows * machine.per_row)
    batcher = Batcher(
        [cost], max_batch_rows=MAX_BATCH_ROWS, max_queue_rows=100_000, max_queue_bytes=10**9
    )
    outcome = Outcome()
    unread: deque[float] = deque()
    now, next_arrival, next_stall = 0.0, 0, 0

    def spend(seconds: float) -> None:
        nonlocal now, next_stall
        now += seconds
        while machine.stall and stalls[next_stall] < now:
            now += random.exponential(machine.stall)
            next_stall += 1

    while now < SECONDS:
        refusals = 0
        while refusals < REFUSALS_PER_TURN:
            while arrivals[next_arrival] <= now and len(unread) < UNREAD_CALLS:
                unread.append(float(arrivals[next_arrival]))
                next_arrival += 1
            while arrivals[next_arrival] <= now:
                next_arrival += 1
                outcome.turned_away += 1
                spend(machine.turn_away)
            if not unread:
                break
            arrived = unread.popleft()
            spend(machine.read)
            try:
                batcher.admit(Job(0, ROWS, 25_600, arrived, arrived + DEADLINE), now)
            except OverloadedError:
                outcome.refused += 1
                refusals += 1
                spend(machine.refuse)
        batch = batcher.take(now)
        if batch is None:
            if not unread:
                now = max(now, float(arrivals[next_arrival]))
            continue
        outcome.expired += len(batch.dropped)
        if not batch.pieces:
            continue
        began = now
        spend(machine.per_batch + batch.rows * machine.per_row)
        cost.observe(batch.rows, now - began)
        for piece in batch.pieces:
            spend(machine.answer)
            if piece.stop == ROWS:
                in_time = now <= piece.job.deadline
                outcome.good += in_time
                outcome.late += not in_time
    return outcome


@pytest.mark.parametrize(
    ("machine", "share", "late"),
    [
        pytest.param(Machine(), 0.85, 0.01, id="vectorised"),
        pytest.param(Machine(per_row=1.7e-5), 0.9, 0.01, id="slow-engine"),
        pytest.param(Machine(per_row=4e-5, stall=0.005), 0.9, 0.06, id="stalls"),
        pytest.param(Machine(per_batch=1e-3, per_row=1e-7), 0.85, 0.01, id="costly-batches"),
    ],
)
def test_goodput_stays_near_its_best_at_any_load(machine, share, late):
    """`share` of the best goodput, and at most `late` of what was admitted answered late."""
    outcomes = {load: simulate(machine, load) for load in (0.7, 1.0, 1.5, 2.0, 3.0)}
    best = max(outcome.goodput for outcome in outcomes.values())
    for load in (1.0, 1.5, 2.0, 3.0):
        assert outcomes[load].goodput >= share * best, load
    for load, outcome in outcomes.items():
        assert outcome.late + outcome.expired <= late * outcome.good, load
    assert outcomes[0.7].refused <= 0.03 * outcomes[0.7].good
