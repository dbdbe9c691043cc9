"""The client processes, and the habits of their callers."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import numpy as np

from benchmarks.soak import callers
from benchmarks.soak.callers import PATIENCE, Desk
from benchmarks.soak.intruders import Intruders
from benchmarks.soak.queries import Queries
from benchmarks.soak.tally import Counts, Tally

Act = Callable[[Desk], None]

PROCESSES: tuple[tuple[tuple[Act, float], ...], ...] = (
    (
        *[(callers.steady_unary, 0.04)] * 3,
        *[(callers.steady_stream, 1.0)] * 2,
    ),
    (
        (callers.cancelling_unary, 0.04),
        (callers.late_unary, 0.04),
        (callers.late_stream, 2.0),
        (callers.cancelling_stream, 0.5),
        (callers.unread_stream, 10.0),
    ),
    (
        (callers.broken_messages, 2.0),
        (callers.broken_stream, 2.0),
        (callers.headers_alone, 1.0),
    ),
)
"""What the callers of each process do, one thread each, and their mean pause in seconds.

One more process has the `Intruders`.
"""

INTRUSION, KILL = 0.3, 8.0
"""Mean seconds between bad connections, and between kills."""

_REPORT = 1.0
"""Seconds between a process's reports."""


@dataclass(frozen=True)
class Plan:
    """What all client processes know.

    Attributes:
        address: the server's.
        folder: of the queries.
        pace: how many times as often as by default callers act.
        longest_silence: seconds that a half-open connection lasts, at most.
    """

    address: str
    folder: Path
    pace: float
    longest_silence: float


class Crowd:
    """The client processes: `begin`, `collect` from time to time, `leave`.

    Attributes:
        counts: how all requests have ended so far.
        failures: what should not have happened.
    """

    def __init__(self, plan: Plan) -> None:
        self.counts: Counts = Counter()
        self.failures: list[str] = []
        context = multiprocessing.get_context("spawn")
        self._begin = context.Barrier(len(PROCESSES) + 2)
        self._over = context.Event()
        self._reports: Queue[tuple[Counts, list[str]]] = context.Queue()
        self._processes = [
            context.Process(
                target=_live, args=(number, plan, self._begin, self._over, self._reports)
            )
            for number in range(len(PROCESSES) + 1)
        ]
        for process in self._processes:
            process.start()

    def begin(self) -> None:
        """Waits until all processes are ready, and has them begin.

        Raises:
            threading.BrokenBarrierError: one is not.
        """
        self._begin.wait(PATIENCE)

    def collect(self) -> None:
        """Adds up what the processes have reported."""
        while not self._reports.empty():
            counts, failures = self._reports.get()
            self.counts.update(counts)
            self.failures += failures

    def leave(self) -> None:
        """Has everybody finish, and waits for it."""
        self._over.set()
        end = time.monotonic() + 2 * PATIENCE
        while any(process.is_alive() for process in self._processes):
            self.collect()
            if time.monotonic() > end:
                self.failures.append("a client process does not end: a request is unanswered")
                for process in self._processes:
                    process.kill()
            time.sleep(0.05)
        self.collect()
        for process in self._processes:
            if process.exitcode:
                self.failures.append(f"a client process ended with {process.exitcode}")


def _live(
    number: int,
    plan: Plan,
    begin: Barrier,
    over: Event,
    reports: Queue[tuple[Counts, list[str]]],
) -> None:
    """A client process."""
    tally = Tally()
    dice = np.random.default_rng([number, 17])
    acts: list[tuple[Callable[[], None], float]] = []
    if number < len(PROCESSES):
        queries = Queries(plan.folder)
        for act, pause in PROCESSES[number]:
            desk = Desk(plan.address, queries, tally, dice.spawn(1)[0])
            acts.append((partial(act, desk), pause))
    else:
        guests, killers = (
            Intruders(plan.address, plan.folder, tally, each, plan.longest_silence)
            for each in dice.spawn(2)
        )
        acts = [(guests.connect, INTRUSION), (killers.kill, KILL)]
    threads = [
        threading.Thread(
            target=_repeat, args=(act, pause / plan.pace, dice.spawn(1)[0], over, tally)
        )
        for act, pause in acts
    ]
    begin.wait(PATIENCE)
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(_REPORT)
        reports.put(tally.take())
    reports.put(tally.take())


def _repeat(
    act: Callable[[], None], pause: float, dice: np.random.Generator, over: Event, tally: Tally
) -> None:
    """Acts until all is over, at random intervals."""
    while not over.wait(dice.exponential(pause)):
        try:
            act()
        except Exception as error:  # the others go on; the soak has failed all the same
            tally.fail(f"{type(error).__name__}: {error}")
