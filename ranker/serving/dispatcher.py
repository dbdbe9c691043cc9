"""Brings waiting lists to the engines: take a batch, score it, hand out the scores.

    submit(job)   decode has made a job of a request; queue it or refuse it
    pump()        the loop has read all that was ready; score what waits

A batch that is predicted to be short is scored right on the loop's thread: a
hand-over to another thread would cost more. What arrives in the meantime is
not read until it is done, and may have waited so long by then: gRPC counts a
deadline from the moment that it reads it. A long one goes to the engine's
own thread, which goes on with whatever gathers meanwhile and returns when
nothing waits; the loop keeps reading all the while.

An engine that works on several batches at once, as a GPU does that copies one
while it scores another, has as many threads: each takes, scores and hands out
by itself, but hands out only after those who took before it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np

from ranker.engine.api import Engine, EngineLostError, Rows, Scores
from ranker.errors import (
    CancelledError,
    DeadlineError,
    InternalError,
    RankerError,
    UnavailableError,
)
from ranker.incident import guard, incident
from ranker.metrics.recorder import Recorder
from ranker.serving.admission import RefusedError
from ranker.serving.queue import Batch, Batcher, Job

logger = logging.getLogger(__name__)

OVERLAP_SECONDS = 0.0001
"""Where engines overlap batches, a batch predicted to take longer is never scored on the loop:
the time that a hand-over to a thread takes. The loop would not work in the meantime but wait,
and the next batch with it."""

_NAP = 0.001
"""Seconds after which the engine's thread looks again whether a batch that waits has filled."""

_WARM_ROWS = (1, 16, 256)


class ScoringJob(Job):
    """A job with its rows, and with what to do once they are scored.

    Args:
        features: float32 [rows, num_features].
        size: the bytes that it holds while it waits.
        done: called once, on whichever thread scored the job: with the scores,
            the seconds that it waited and those that its batches were scored for.
        dropped: called once instead, if the job won't be scored, with the reason.
    """

    __slots__ = ("done", "dropped", "features", "over", "queued", "scores", "scoring")

    def __init__(
        self,
        model: int,
        features: Rows,
        size: int,
        arrived: float,
        deadline: float,
        done: Callable[[Scores, float, float], None],
        dropped: Callable[[RankerError], None],
    ) -> None:
        super().__init__(model, len(features), size, arrived, deadline)
        self.features = features
        self.done = done
        self.dropped = dropped
        self.queued = 0.0
        self.scoring = 0.0
        self.scores: Scores | None = None
        self.over = False


class Dispatcher:
    """Owns the queue and the engines of one process.

    Args:
        engines: one per model, in the order of the jobs' `model`. Batches overlap
            if every one of them allows it (`batches_at_once`).
        batcher: the queue.
        recorder: where batches, refusals and the queue's depth are counted.
        lost: called, on whichever thread, for each batch whose engine is lost to
            this process.
        inline: a batch predicted to take more seconds is scored on an engine's thread.

    Attributes:
        draining: set it to let nothing more in; what waits is still scored.
        last_asked: when somebody last wanted something, on the `time.monotonic` clock.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        batcher: Batcher,
        recorder: Recorder,
        lost: Callable[[], None],
        inline: float,
    ) -> None:
        self.draining = False
        self.last_asked = -math.inf
        self._engines = engines
        self._batcher = batcher
        self._recorder = recorder
        self._lost = lost
        # When the loop last went to score, and was done with it; of its own thread only.
        self._left = self._back = 0.0
        self._lock = threading.Lock()  # over the batcher and the four fields below
        self._busy_until = -math.inf
        self._scored_at = -math.inf  # when the last batch handed out was scored
        self._at_work = 0  # engine threads that take the batches; the loop does if none does
        self._taken: deque[Batch] = deque()  # and not handed out yet, in order
        self._turn = threading.Condition(self._lock)
        self._most = min(engine.batches_at_once for engine in engines)
        self._inline = inline if self._most == 1 else min(inline, OVERLAP_SECONDS)
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="engine")

    def warm(self, model: int) -> None:
        """Scores made-up rows with a model's engine, so that no request is the first.

        Also teaches its cost model what a batch costs, small and large. Raises what
        the engine raises.
        """
        engine = self._engines[model]
        random = np.random.default_rng(0)
        for rows in (*_WARM_ROWS, *_WARM_ROWS):
            block = random.normal(size=(rows, engine.num_features)).astype(np.float32)
            started = time.monotonic()
            engine.score([block])
            seconds = time.monotonic() - started
            with self._lock:
                self._batcher.cost(model).observe(rows, seconds)

    def idle(self) -> bool:
        """Whether nothing waits, and nothing is being scored or handed out, on whichever thread."""
        with self._lock:
            return not (self._batcher.rows or self._at_work or self._taken)

    def check(self, deadline: float) -> None:
        """Refuses what could not be answered in time, before it is read.

        Raises:
            OverloadedError: no list that came lately would be answered by that deadline.
            UnavailableError: nothing is let in any more.
        """
        if self.draining:
            self.last_asked = time.monotonic()
            self._recorder.request_shed(-1, "draining")
            raise UnavailableError("draining: ask again, elsewhere")
        if not self._batcher.rows:
            return
        now = time.monotonic()
        try:
            with self._lock:
                busy = max(0.0, self._busy_until - now)
                self._batcher.check(deadline, now, busy, self._unread(now))
        except RefusedError as error:
            self._recorder.request_shed(-1, error.reason)
            raise

    def ended(self, *, in_time: bool) -> None:
        """The RPC of a list that had to wait is over, before its deadline or by it."""
        with self._lock:
            self._batcher.admission.ended(in_time=in_time)

    def submit(self, job: ScoringJob) -> None:
        """Queues a job; `pump` brings it on.

        Raises:
            OverloadedError: the queue is full, or the job's deadline can't be met.
        """
        now = self.last_asked = time.monotonic()
        try:
            with self._lock:
                busy = max(0.0, self._busy_until - now)
                self._batcher.admit(job, now, busy, self._unread(now))
        except RefusedError as error:
            self._recorder.request_shed(job.model, error.reason)
            raise

    def pump(self) -> float | None:
        """Scores what waits as one batch, or sees to it that an engine's thread does.

        Returns:
            Seconds until there is more to do even if no request comes, or None.
            0 if more waits than fits a batch: what has arrived meanwhile is read
            before the next one.
        """
        now = time.monotonic()
        self._left = self._back = now
        with self._lock:
            if self._at_work == self._most:
                self._recorder.queue_changed(self._batcher.rows)
                return None
            batch = self._take(now)
            if batch is None:
                return self._batcher.due(now) if self._batcher.rows else None
            inline = not self._at_work and batch.cost <= self._inline
            self._at_work += not inline
        if inline:
            self._score(batch)
            self._back = time.monotonic()
        else:
            self._threads.submit(self._drain, batch)
        with self._lock:
            if self._at_work == self._most or not self._batcher.rows:
                return None
            return self._batcher.due(time.monotonic())

    def close(self) -> None:
        """Ends the engines' threads after what they have to do, and drops what waits even then.

        Call it when no caller is left.
        """
        self._threads.shutdown()
        with self._lock:
            left = self._take(math.inf)
        if left is not None:
            self._score(left)

    def _unread(self, now: float) -> float:
        """Seconds that what is read now may have waited for the loop, which was scoring.

        That is the most that it may be: a caller of tight deadlines that had the loop to
        itself is charged what it never waited. The loop reads in no particular order, and is
        taken to be through with what gathered after as long again.
        """
        away = self._back - self._left
        return now - self._left if now - self._back < away else 0.0

    def _drain(self, batch: Batch | None) -> None:
        """An engine's thread: batch after batch until nothing waits."""
        while batch is not None:
            guard(logger, "a batch", self._score, batch)
            batch = self._take_or_return()

    def _take_or_return(self) -> Batch | None:
        """An engine's thread's next batch; None ends its work."""
        while True:
            now = time.monotonic()
            with self._lock:
                batch = self._take(now)
                if batch is not None:
                    return batch
                if not self._batcher.rows:
                    self._at_work -= 1
                    return None
                due = self._batcher.due(now)
            time.sleep(min(due, _NAP))

    def _take(self, now: float) -> Batch | None:
        batch = self._batcher.take(now)
        self._recorder.queue_changed(self._batcher.rows)
        if batch is not None and batch.pieces:
            begins = max(now, self._busy_until) if self._taken else now
            self._busy_until = begins + batch.cost
            self._taken.append(batch)
        return batch

    def _score(self, batch: Batch) -> None:
        """Scores a batch, and hands it out once all that were taken before it are."""
        for job in cast("list[ScoringJob]", batch.dropped):
            self._drop(job)
        if not batch.pieces:
            return
        pieces = cast("list[tuple[ScoringJob, int, int]]", batch.pieces)
        started = time.monotonic()
        scores: Scores | Exception
        try:
            scores = self._engines[batch.model].score(
                [job.features[start:stop] for job, start, stop in pieces]
            )
        except Exception as error:
            scores = error
        ended = time.monotonic()
        with self._turn:
            while self._taken[0] is not batch:
                self._turn.wait()
            # While the batch before was scored, this one but waited for the same device.
            seconds = max(0.0, ended - max(started, self._scored_at))
            self._scored_at = max(self._scored_at, ended)
            if not isinstance(scores, Exception):
                self._batcher.cost(batch.model).observe(batch.rows, seconds)
        try:
            if isinstance(scores, Exception):
                self._fail(batch, scores)
            else:
                self._hand_out(batch, scores, started, seconds)
        finally:
            with self._turn:
                self._taken.popleft()
                if self._taken:
                    self._turn.notify_all()
                else:
                    self._busy_until = -math.inf  # it may have been done sooner than predicted

    def _hand_out(self, batch: Batch, scores: Scores, started: float, seconds: float) -> None:
        pieces = cast("list[tuple[ScoringJob, int, int]]", batch.pieces)
        queued = [started - job.arrived for job, start, _ in pieces if start == 0]
        requests = len({job for job, _, _ in pieces})
        self._recorder.batch_scored(batch.model, batch.rows, requests, queued, seconds)
        at = 0
        for job, start, stop in pieces:
            self._add_piece(job, start, stop, scores[at : at + stop - start], started, seconds)
            at += stop - start

    def _add_piece(
        self, job: ScoringJob, start: int, stop: int, scores: Scores, started: float, seconds: float
    ) -> None:
        """Gives a piece's scores to its job, and finishes the job with its last piece."""
        if start == 0:
            job.queued = started - job.arrived
        if stop - start < job.rows:
            if job.scores is None:
                job.scores = np.empty(job.rows, np.float32)
            job.scores[start:stop] = scores
            scores = job.scores
        job.scoring += seconds
        if stop == job.rows and not job.over:
            guard(logger, "answering", job.done, scores, job.queued, job.scoring)

    def _drop(self, job: ScoringJob) -> None:
        if not self._ends(job):
            return
        if job.cancelled:
            self._recorder.request_expired(job.model, "cancelled")
            error: RankerError = CancelledError("cancelled before it was scored")
        else:
            self._recorder.request_expired(job.model, "deadline")
            error = DeadlineError("the deadline passed before it was scored")
        guard(logger, "refusing", job.dropped, error)

    def _fail(self, batch: Batch, error: Exception) -> None:
        message = incident(logger, "scoring failed", error)
        lost = isinstance(error, EngineLostError)
        failure = UnavailableError(message) if lost else InternalError(message)
        for job in cast("list[ScoringJob]", [piece.job for piece in batch.pieces]):
            if self._ends(job):
                job.cancelled = True  # so that what is left of it leaves the queue
                guard(logger, "refusing", job.dropped, failure)
        if lost:
            self._lost()

    def _ends(self, job: ScoringJob) -> bool:
        """Whether it is for the caller to say that a job won't be scored; only one thread does."""
        with self._lock:
            first, job.over = not job.over, True
        return first
