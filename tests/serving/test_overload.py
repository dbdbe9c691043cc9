"""A simulated server under loads up to several times its capacity, on a simulated clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ranker.errors import OverloadedError
from ranker.serving.cost import CostModel
from tests.serving.lists import WaitingList, a_list, make

SECONDS = 6.0
LISTS = 10_000
"""A simulation is over after so many seconds, or once so many lists could have been answered."""

MAX_BATCH_ROWS = 1024
DEADLINE = 0.05
REFUSALS_PER_TURN = 64


@dataclass(frozen=True)
class Machine:
    """What things really take, in seconds."""

    rows: int = 100  # of each list
    per_row: float = 1.2e-6
    per_batch: float = 1e-5
    read: float = 3e-5
    answer: float = 2e-5
    refuse: float = 2e-5
    stall: float = 0.0  # mean of a stall, of which there are 20 a second

    @property
    def capacity(self) -> float:
        """Answers per second if there is nothing to refuse."""
        return 1.0 / self._answered

    def goodput(self, load: float) -> float:
        """The most answers per second that refusing the rest leaves time for."""
        rate = load * self.capacity
        if load <= 1.0:
            return rate
        return (1.0 - rate * self.refuse) / (self._answered - self.refuse)

    @property
    def seconds(self) -> float:
        """How long it is simulated."""
        return min(SECONDS, LISTS / self.capacity)

    @property
    def _answered(self) -> float:
        lists = MAX_BATCH_ROWS / self.rows
        return self.per_row * self.rows + self.read + self.answer + self.per_batch / lists


@dataclass
class Outcome:
    seconds: float
    good: int = 0
    late: int = 0
    refused: int = 0
    expired: int = 0

    @property
    def goodput(self) -> float:
        return self.good / self.seconds


def simulate(machine: Machine, load: float, seed: int = 0) -> Outcome:
    """One loop: read what has arrived, score one batch, answer it, and again.

    As the core transport does it: a turn ends with its REFUSALS_PER_TURN-th refusal,
    and deadlines count from the reading, as gRPC has it, whenever a list came.
    Nothing is learned of late answers (`Admission.on_end`).
    """
    random = np.random.default_rng(seed)
    rate = load * machine.capacity
    arrivals = np.cumsum(random.exponential(1.0 / rate, int(1.5 * rate * machine.seconds) + 100))
    stalls = np.cumsum(random.exponential(0.05, 10_000))
    queue = make(max_batch_rows=MAX_BATCH_ROWS, max_queue_rows=100_000, costs=[CostModel()])
    [batcher] = queue.batchers
    for rows in (1, 256, 16):
        batcher.cost.observe(rows, machine.per_batch + rows * machine.per_row)
    outcome = Outcome(machine.seconds)
    came: dict[WaitingList, float] = {}
    now, next_arrival, next_stall = 0.0, 0, 0

    def spend(seconds: float) -> None:
        nonlocal now, next_stall
        now += seconds
        while machine.stall and stalls[next_stall] < now:
            now += random.exponential(machine.stall)
            next_stall += 1

    while now < machine.seconds:
        refusals = 0
        while refusals < REFUSALS_PER_TURN and arrivals[next_arrival] <= now:
            new = a_list(machine.rows, deadline=now + DEADLINE, arrived=now)
            came[new] = float(arrivals[next_arrival])
            next_arrival += 1
            try:
                queue.check_unread(new, now, 1)
                spend(machine.read)
                queue.put(new, now=now)
            except OverloadedError:
                outcome.refused += 1
                refusals += 1
                spend(machine.refuse)
        batch = queue.take(now)
        started = now
        if batch is None:
            now = max(now, float(arrivals[next_arrival]))
            continue
        outcome.expired += len(batch.dropped)
        if not batch.pieces:
            continue
        spend(machine.per_batch + batch.rows * machine.per_row)
        batcher.cost.observe(batch.rows, now - started)
        for each, _, stop in batch.pieces:
            spend(machine.answer)
            if stop == machine.rows:
                in_time = now <= came[each] + DEADLINE
                outcome.good += in_time
                outcome.late += not in_time
        queue.unread_since, queue.read_until = started, now + (now - started)
    return outcome


@pytest.mark.parametrize(
    ("machine", "share", "late", "refused"),
    [
        pytest.param(Machine(), 0.95, 0.01, 0.0, id="vectorised"),
        pytest.param(Machine(per_row=1.7e-5), 0.95, 0.01, 0.0, id="slow-engine"),
        pytest.param(Machine(rows=300, per_row=2e-5), 0.85, 0.01, 0.01, id="over-a-quantum"),
        pytest.param(Machine(rows=1000, per_row=4e-7), 0.95, 0.01, 0.0, id="long-lists"),
        pytest.param(Machine(per_row=4e-5, stall=0.005), 0.8, 0.06, 0.05, id="stalls"),
        pytest.param(Machine(per_batch=1e-3, per_row=1e-7), 0.95, 0.01, 0.0, id="costly-batches"),
    ],
)
def test_goodput_stays_near_what_is_possible_at_any_load(machine, share, late, refused):
    """`share` of it, at most `late` of the answers too late, `refused` at 0.7 of the capacity."""
    outcomes = {load: simulate(machine, load) for load in (0.7, 1.0, 1.5, 2.0, 3.0)}
    for load, outcome in outcomes.items():
        assert outcome.goodput >= share * machine.goodput(load), load
        assert outcome.late + outcome.expired <= late * outcome.good, load
    assert outcomes[0.7].refused <= refused * outcomes[0.7].good
