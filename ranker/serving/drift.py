"""Counts features of some of the lists that were ranked, so that drift from the training is seen.

Some times a second one list is taken: by the clock, and at random from those that were answered
together. It is counted when the loop has nothing to read and nothing to score, in short steps; and
what was counted goes to the office now and then, which adds up what all workers have counted
(`ranker.metrics.drift`).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from ranker.engine.api import Scores
from ranker.incident import incident
from ranker.metrics.drift_log import FEATURES_AT_ONCE, DriftLog
from ranker.serving.batcher import Batch
from ranker.serving.drift_counter import DriftCounter
from ranker.serving.generation import Generation
from ranker.serving.served_model import ServedModel
from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.04
"""From one list to the next, on average."""

REST = 200.0
"""And at least so many times as long as the last one took: half a percent of the time."""

ROWS = 16
"""So many candidates of a list are counted; of a longer one every second, or every third, and so
on. Those of one list have much in common, so that more lists tell more than more candidates."""

SEND_SECONDS = 2.0
"""Counts go to the office so long after the first of them."""


class DriftSample:
    """Takes lists, counts them, and sends the counts. For the loop's thread alone.

    Args:
        log: where counts go; None: nothing is taken.
        clock: in seconds.
        cpu_clock: seconds for which this thread has had a core: while it waits for one, or the
            machine stands still, no list is counted.

    Attributes:
        due: when the next list is taken.
        waiting: whether one is being counted.
        send_at: when counts are to be sent.
    """

    def __init__(
        self,
        log: DriftLog | None,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.due = math.inf if log is None else -math.inf
        self.waiting = False
        self.send_at = math.inf
        self._log = log
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._counters: dict[ServedModel, DriftCounter] = {}
        self._counting: Iterator[None] = iter(())
        self._sending: Iterator[None] | None = None
        self._spent = 0.0

    def prepare(self, generation: Generation) -> dict[ServedModel, DriftCounter]:
        """What counts these models, for `serve`; takes milliseconds. Call it from any thread."""
        if self._log is None:
            return {}
        return {served: DriftCounter(served) for served in generation.models}

    def serve(self, counters: Mapping[ServedModel, DriftCounter]) -> None:
        """Counts these models from now on, and no others."""
        if self._log is None:
            return
        known = self._counters
        self._counters = {served: known.get(served, new) for served, new in counters.items()}
        self._log.served([counter.key for counter in self._counters.values()])

    def on_answered(self, batch: Batch[RankTask], scores: Scores) -> None:
        """Takes one of the lists that have been answered; call it once one is due.

        Args:
            batch: lists of one model.
            scores: float32 [batch.rows]; of a list that took several batches `task.scores` has all.
        """
        self.due = self._clock() + _pause()
        chosen = random.randrange(len(batch.pieces))
        task, start, stop = batch.pieces[chosen]
        counter = self._counters.get(task.served)
        if counter is None or stop < task.rows or task.cancelled:
            return
        part = task.scores
        if part is None:
            begin = sum(end - first for _, first, end in batch.pieces[:chosen])
            part = scores[begin : begin + stop - start]
        step = -(-task.rows // ROWS)
        # Copies, so that nothing else of the batch stays in memory.
        rows, some_scores = task.candidates[::step].copy(), part[::step].copy()
        self._counting = counter.count(rows, task.plan, task.context.copy(), some_scores)
        self._spent = 0.0
        self.due, self.waiting = math.inf, True

    def step(self) -> None:
        """Goes on with what waits: a piece of a list, or of what is to be sent."""
        try:
            if self.waiting:
                self._count()
            else:
                self._send()
        except Exception as error:  # a bug here must not end the loop
            self.due = self.send_at = math.inf
            self.waiting = False
            incident(logger, "counting features failed; no more are counted", error)

    def _count(self) -> None:
        began = self._cpu_clock()
        done = next(self._counting, self) is self
        self._spent += self._cpu_clock() - began
        if done:
            now = self._clock()
            self.waiting = False
            self.due = now + max(_pause(), REST * self._spent)
            self.send_at = min(self.send_at, now + SEND_SECONDS)

    def _send(self) -> None:
        if self._sending is None:
            self._sending = self._packets()
        if next(self._sending, self) is self:
            self._sending, self.send_at = None, math.inf

    def _packets(self) -> Iterator[None]:
        """Sends one packet with each `next`."""
        assert self._log is not None
        for counter in list(self._counters.values()):
            if counter.lists:
                counted = counter.take()
                while features := list(islice(counted, FEATURES_AT_ONCE)):
                    self._log.counted(counter.key, features)
                    yield


def _pause() -> float:
    """Until the next list: not always as long, so that lists that come at a beat are seen too."""
    return PAUSE_SECONDS * (0.5 + random.random())
