"""The queue: candidate lists come in one by one and leave in batches.

Pure logic. It knows how many rows a list has, when its caller stops waiting
and what a batch is predicted to cost; it starts no thread and reads no clock.

    admit(list):  refuse it, if the queue is full or its deadline can't be met
    take():       the next batch for an engine that is idle now

One rule: *whatever waits when the engine falls idle is the next batch.* Lists
gather only while the engine is busy, so nothing ever waits for a timer (but
see `max_delay`).

Who is served next:

- Between models, the one that has had the least engine time (start-time fair
  queueing, Goyal et al., SIGCOMM 1996), so that a slow model can't starve a
  fast one.
- Within a model, lists in order of arrival, each with at most `QUANTUM` rows
  of a batch as long as others wait (round robin), so that a list of thousands
  delays a list of ten by one batch and not by its whole length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ranker.cost import CostModel
from ranker.errors import OverloadedError

QUANTUM = 256
"""Rows that one list may put into a batch before the others had their turn."""


class Job:
    """One candidate list on its way through the queue.

    Args:
        model: which model scores it, an index.
        rows: how many candidates it has, at least 1.
        size: the bytes that it holds while it waits.
        arrived: when it came, in seconds of the caller's clock.
        deadline: when its caller stops waiting, on the same clock; `inf`: never.

    Attributes:
        cancelled: set it once nobody wants the answer; the job is then dropped
            before it is scored.
        taken: how many of its rows are in batches already.
    """

    __slots__ = ("arrived", "cancelled", "deadline", "model", "rows", "size", "taken")

    def __init__(self, model: int, rows: int, size: int, arrived: float, deadline: float) -> None:
        self.model = model
        self.rows = rows
        self.size = size
        self.arrived = arrived
        self.deadline = deadline
        self.cancelled = False
        self.taken = 0


class Piece(NamedTuple):
    """Rows `start` to `stop` of a job: its share of a batch."""

    job: Job
    start: int
    stop: int


@dataclass(slots=True)
class Batch:
    """What to score next with one model, and what was dropped on the way.

    Attributes:
        model: the index of the model; meaningless if there are no pieces.
        pieces: in the order of scoring.
        rows: the rows of all pieces.
        dropped: jobs whose caller has gone or whose deadline has passed; they
            have left the queue.
    """

    model: int = -1
    pieces: list[Piece] = field(default_factory=list)
    rows: int = 0
    dropped: list[Job] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Appends a piece; one that goes on where the last one ended becomes part of it."""
        self.rows += piece.stop - piece.start
        if self.pieces and self.pieces[-1].job is piece.job:
            piece = piece._replace(start=self.pieces.pop().start)
        self.pieces.append(piece)


class QueueFullError(OverloadedError):
    """The queue has no room for the job.

    Attributes:
        reason: `queue_rows` or `queue_bytes`, the bound that it would break.
    """

    def __init__(self, message: str, retry_after: float, reason: str) -> None:
        super().__init__(message, retry_after)
        self.reason = reason


class TooLateError(OverloadedError):
    """The job's deadline would pass before its answer is ready."""

    reason = "deadline"


class _Lane:
    """The jobs that wait for one model."""

    __slots__ = ("cost", "jobs", "rows", "served")

    def __init__(self, cost: CostModel) -> None:
        self.cost = cost
        self.jobs: deque[Job] = deque()
        self.rows = 0  # waiting, not yet taken
        self.served = 0.0  # virtual time: predicted engine seconds given so far


class Batcher:
    """Queues jobs and forms batches. Not thread-safe: its owner holds a lock.

    Args:
        costs: one cost model per model; the owner feeds it.
        max_batch_rows: the most rows of a batch.
        max_queue_rows: the most rows that may wait.
        max_queue_bytes: the most bytes that waiting jobs may hold.
        max_delay: seconds that a batch with room left may wait for company; 0
            is the rule above.
    """

    def __init__(
        self,
        costs: Sequence[CostModel],
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        max_queue_bytes: int,
        max_delay: float = 0.0,
    ) -> None:
        self._lanes = [_Lane(cost) for cost in costs]
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._max_queue_bytes = max_queue_bytes
        self._max_delay = max_delay
        self._bytes = 0
        self._served = 0.0  # virtual time of the batch taken last
        self.rows = 0

    def cost(self, model: int) -> CostModel:
        """The cost model of one model."""
        return self._lanes[model].cost

    def backlog(self) -> float:
        """Predicted seconds of engine time for all that waits."""
        return sum(
            lane.cost.predict(lane.rows) + (lane.rows - 1) // self._max_batch_rows * lane.cost.fixed
            for lane in self._lanes
            if lane.rows
        )

    def admit(self, job: Job, now: float, busy: float = 0.0, margin: float = 0.0) -> None:
        """Queues a job.

        Args:
            job: what to queue.
            now: the time.
            busy: predicted seconds until the engine has finished what it does now.
            margin: seconds that an answer needs beside queue and engine.

        Raises:
            QueueFullError: it would break a bound on the queue. A job larger
                than the bound is let into an empty queue.
            TooLateError: its predicted finish is past its deadline. Never
                raised while the engine is idle: a prediction that has gone
                wrong must be able to learn.
        """
        lane = self._lanes[job.model]
        wait = busy + self.backlog()
        if self.rows and self.rows + job.rows > self._max_queue_rows:
            raise QueueFullError(
                f"queue full: {self.rows} rows wait, {self._max_queue_rows} may", wait, "queue_rows"
            )
        if self._bytes and self._bytes + job.size > self._max_queue_bytes:
            raise QueueFullError(
                f"queue full: {self._bytes} bytes wait, {self._max_queue_bytes} may",
                wait,
                "queue_bytes",
            )
        finish = now + wait + lane.cost.predict(job.rows) + margin
        if finish > job.deadline and wait > 0.0:
            raise TooLateError(
                f"the answer would come {(finish - job.deadline) * 1e3:.1f} ms after the deadline",
                wait,
            )
        if not lane.rows:
            lane.served = max(lane.served, self._served)
        lane.jobs.append(job)
        lane.rows += job.rows
        self.rows += job.rows
        self._bytes += job.size

    def take(self, now: float) -> Batch | None:
        """The next batch.

        Returns:
            None if nothing waits, or if what waits may still wait (`due`).
            A batch without pieces if all that waited was dropped.
        """
        if not self.rows or self.due(now) > 0.0:
            return None
        batch = Batch()
        while not batch.pieces and self.rows:
            model, lane = min(
                ((model, lane) for model, lane in enumerate(self._lanes) if lane.rows),
                key=lambda entry: entry[1].served,
            )
            self._fill(batch, lane, now)
            if batch.pieces:
                batch.model = model
                self._served = lane.served
                lane.served += lane.cost.predict(batch.rows)
        return batch

    def due(self, now: float) -> float:
        """Seconds until `take` gives what waits: 0 unless there is a `max_delay`."""
        if not self._max_delay or self.rows >= self._max_batch_rows:
            return 0.0
        oldest = min((lane.jobs[0].arrived for lane in self._lanes if lane.jobs), default=now)
        return max(0.0, oldest + self._max_delay - now)

    def _fill(self, batch: Batch, lane: _Lane, now: float) -> None:
        """Moves rows from a lane into a batch, round by round, until it is full."""
        room = self._max_batch_rows
        waiting: list[Job] = []  # jobs with rows left, in order
        while room and lane.jobs:
            job = lane.jobs.popleft()
            left = job.rows - job.taken
            if job.cancelled or job.deadline <= now:
                batch.dropped.append(job)
                rows = left
            else:
                alone = not lane.jobs and not waiting
                rows = min(left, room if alone else min(room, QUANTUM))
                batch.add(Piece(job, job.taken, job.taken + rows))
                job.taken += rows
                room -= rows
            lane.rows -= rows
            self.rows -= rows
            if rows < left:
                waiting.append(job)
            else:
                self._bytes -= job.size
            if not lane.jobs:
                lane.jobs.extend(waiting)
                waiting.clear()
        lane.jobs.extend(waiting)
