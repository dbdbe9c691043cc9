"""Brings waiting lists to the engines: takes a batch, has it scored, hands out the scores.

Everything here runs on the loop's thread but `Engine.score`, and that too while it
is short: a batch that is predicted to be short is scored right there, since a
hand-over to another thread would cost more. What arrives in the meantime is
not read until it is done, and may have waited so long by then: gRPC counts a
deadline from the moment that it reads it. A long batch is scored on a thread;
the loop keeps reading all the while, and gives the thread the next batch before
it answers the last one.

An engine that works on several batches at once, as a GPU does that copies one
while it scores another, has as many threads. Batches are handed out in the order
in which they were taken.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from ranker.engine.api import EngineLostError, Scores
from ranker.errors import (
    InternalError,
    RankerError,
    UnavailableError,
)
from ranker.incident import guard, incident
from ranker.metrics.recorder import Recorder
from ranker.serving.batcher import Batch
from ranker.serving.drift import DriftSample
from ranker.serving.engine_threads import EngineThreads
from ranker.serving.explanations import Explanations
from ranker.serving.queue import Queue
from ranker.serving.refusals import expire, refuse
from ranker.serving.served_model import ServedModel
from ranker.serving.shadow import Shadows
from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)

LONGEST_BATCH_SECONDS = 30.0
"""A batch that a thread has had for longer is taken for one that never comes back."""

OVERLAP_SECONDS = 0.0001
"""Where engines overlap batches, a batch predicted to take longer is never scored on the loop:
the time that a hand-over to a thread takes. The loop would not work in the meantime but wait,
and the next batch with it."""


class _Scoring:
    """The scoring of one batch, and what came of it."""

    __slots__ = ("batch", "ended", "on_thread", "outcome", "served", "started", "taken")

    def __init__(self, batch: Batch[RankTask], now: float) -> None:
        self.batch = batch
        self.taken = now
        self.served: ServedModel = batch.pieces[0][0].served
        self.started = self.ended = now
        self.on_thread = False
        self.outcome: Scores | Exception | None = None

    def score(self) -> None:
        """Scores it, on whichever thread. Does not raise: `outcome` may be an exception."""
        try:
            blocks = [task.rows_from(start, stop) for task, start, stop in self.batch.pieces]
            self.started = time.monotonic()
            outcome: Scores | Exception = self.served.engine.score(blocks)
        except Exception as error:
            outcome = error
        self.ended = time.monotonic()
        self.outcome = outcome


class Dispatcher:
    """Owns the queue and the engines' threads of one process.

    Args:
        queue: what waits.
        recorder: where the queue's depth is recorded.
        shadows: hear which lists have been answered.
        drift: hears of some.
        explanations: answer the lists that are to be explained.
        batches_at_once: how many batches the engines may work on.
        longest_batch: a batch predicted to take more seconds is scored on a thread.
        call_soon: has the loop's thread call a function, whichever thread asks.
        on_engine_lost: called for each batch whose engine is lost to this process.

    Attributes:
        scored: how many lists have been scored; of one that takes several batches each has a part.
        scored_rows: how many candidates.
        most_rows: the candidates of a batch as large as pays, of the model that was scored last.
        spare_seconds: what larger batches would have saved of the time on the engines' threads.

    Raises:
        RuntimeError: the system doesn't start the threads.
    """

    def __init__(
        self,
        queue: Queue[RankTask],
        recorder: Recorder,
        shadows: Shadows,
        drift: DriftSample,
        explanations: Explanations,
        *,
        batches_at_once: int,
        longest_batch: float,
        call_soon: Callable[[Callable[[], None]], None],
        on_engine_lost: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._recorder = recorder
        self._shadows = shadows
        self._drift = drift
        self._explanations = explanations
        self._call_soon = call_soon
        self._on_engine_lost = on_engine_lost
        overlap = batches_at_once > 1
        self._longest_inline = min(longest_batch, OVERLAP_SECONDS) if overlap else longest_batch
        self._threads = EngineThreads(batches_at_once)
        self.scored = 0.0
        self.scored_rows = 0
        self.most_rows = 1
        self.spare_seconds = 0.0
        self._on_threads: deque[_Scoring] = deque()  # and not handed out yet, in order
        self._scored_at = -math.inf  # when the last batch handed out was scored

    def idle(self) -> bool:
        """Whether nothing waits, and nothing is being scored."""
        return not (self._queue.rows or self._on_threads)

    def hangs(self, now: float) -> bool:
        """Whether an engine's thread has had a batch for so long that it must be stuck."""
        scoring = self._on_threads
        return bool(scoring) and now - scoring[0].taken > LONGEST_BATCH_SECONDS

    def turn(self) -> float | None:
        """Scores what waits as one batch, or has a thread do it.

        Returns:
            Seconds until there is more to do even if no request comes, or None.
            0 if more waits than fits a batch: what has arrived meanwhile is read
            before the next one.
        """
        if len(self._on_threads) < self._threads.count:
            scoring = self._take()
            if scoring is not None:
                if self._belongs_here(scoring):
                    self._score_here(scoring)
                else:
                    self._score_on_thread(scoring)
        if not self._queue.rows or len(self._on_threads) >= self._threads.count:
            return None
        return self._queue.due(time.monotonic())

    def close(self) -> None:
        """Ends the threads after what they have to do. Call it when no caller is left."""
        self._threads.close()

    def _take(self) -> _Scoring | None:
        """The next batch, if there is one to score; refuses what was dropped on the way."""
        now = time.monotonic()
        batch = self._queue.take(now)
        self._recorder.queue_changed(self._queue.rows)
        if batch is None:
            return None
        for task in batch.dropped:
            expire(task, "scored")
        if not batch.pieces:
            return None
        begins = max(now, self._queue.busy_until) if self._on_threads else now
        self._queue.busy_until = begins + batch.cost
        return _Scoring(batch, now)

    def _belongs_here(self, scoring: _Scoring) -> bool:
        """Whether a batch is scored on the loop's thread."""
        return not self._on_threads and scoring.batch.cost <= self._longest_inline

    def _score_here(self, scoring: _Scoring) -> None:
        scoring.score()
        self._hand_out(scoring)
        now = time.monotonic()
        queue = self._queue
        queue.busy_until = -math.inf  # it may have been done sooner than predicted
        queue.unread_since, queue.read_until = scoring.started, now + (now - scoring.started)

    def _score_on_thread(self, scoring: _Scoring) -> None:
        def run() -> None:
            scoring.score()
            self._call_soon(self._on_scored)

        scoring.on_thread = True
        self._on_threads.append(scoring)
        self._threads.run(run)

    def _on_scored(self) -> None:
        """A thread has scored a batch."""
        scored: list[_Scoring] = []
        while self._on_threads and self._on_threads[0].outcome is not None:
            scored.append(self._on_threads.popleft())
        if not self._on_threads:
            self._queue.busy_until = -math.inf
        # First the next batches, so that the engine need not wait for the answers.
        following = None
        while self._queue.rows and len(self._on_threads) < self._threads.count:
            following = self._take()
            if following is None or self._belongs_here(following):
                break
            self._score_on_thread(following)
            following = None
        for scoring in scored:
            guard(logger, "a batch", self._hand_out, scoring)
        if following is not None:
            self._score_here(following)

    def _hand_out(self, scoring: _Scoring) -> None:
        """Answers a batch's lists, or refuses them if it could not be scored."""
        batch, served, outcome = scoring.batch, scoring.served, scoring.outcome
        # While the batch before was scored, this one but waited for the same device.
        seconds = max(0.0, scoring.ended - max(scoring.started, self._scored_at))
        self._scored_at = max(self._scored_at, scoring.ended)
        if outcome is None or isinstance(outcome, Exception):
            self._fail(batch, outcome)
            return
        served.batcher.cost.observe(batch.rows, seconds)
        self.scored += batch.lists
        self.scored_rows += batch.rows
        self.most_rows = most_rows = served.batcher.most_rows(batch)
        spare = min(seconds, served.batcher.fuller_saves(batch, most_rows))
        self._recorder.engine_worked(seconds - spare)
        if scoring.on_thread:
            self.spare_seconds += spare
        queued = [scoring.started - task.arrived for task, start, _ in batch.pieces if start == 0]
        # A list has one piece in a batch.
        served.metrics.batch_scored(batch.rows, len(batch.pieces), queued, seconds)
        _answer(batch, outcome, scoring, seconds)
        if self._shadows.pairs:
            guard(logger, "noting lists for a shadow", self._shadows.on_answered, batch, outcome)
        if scoring.ended >= self._drift.due:
            guard(logger, "taking a list for drift", self._drift.on_answered, batch, outcome)
        if self._explanations.lists:
            self._explanations.on_scored(batch, outcome)

    def _fail(self, batch: Batch[RankTask], error: Exception | None) -> None:
        failure: RankerError
        message = incident(logger, "scoring failed", error or RuntimeError("no outcome"))
        lost = isinstance(error, EngineLostError)
        failure = UnavailableError(message) if lost else InternalError(message)
        for task, _, _ in batch.pieces:
            task.cancelled = True  # so that what is left of it leaves the queue
            refuse(task, failure)
        if lost:
            self._on_engine_lost()


def _answer(batch: Batch[RankTask], scores: Scores, scoring: _Scoring, seconds: float) -> None:
    """Gives the lists of a batch their scores, and answers plain ones that have all of them."""
    at, started = 0, scoring.started
    facts = (batch.rows, len(batch.pieces), started, scoring.ended)
    for task, start, stop in batch.pieces:
        rows = stop - start
        part = scores[at : at + rows]
        at += rows
        task.scoring += seconds
        task.batch = facts
        if start == 0:
            task.queued = started - task.arrived
        if rows < task.rows:
            if task.scores is None:
                task.scores = np.empty(task.rows, np.float32)
            task.scores[start:stop] = part
            part = task.scores
        if stop == task.rows and not task.explain and not task.is_over:
            try:
                task.finish(task.wire.write(task, part))
            except Exception as error:  # a bug here must not spoil the rest of the batch
                what = incident(logger, "answering failed", error, task.traceparent)
                guard(logger, "refusing", task.finish, InternalError(what))
