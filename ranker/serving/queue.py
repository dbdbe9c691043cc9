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
- Within a model, lists in order of arrival, but those of which at most `QUANTUM`
  rows are left before the longer ones: a list of thousands delays a list of ten
  by one batch and not by its whole length. Of each batch the longer ones have
  `QUANTUM` rows, or half if that is less, so that short lists can't starve them.

A batch is no larger than pays: once its rows take ten times as long as the
fixed cost of a batch, more of them save nothing, and only make the first list
of the batch wait for the last. It is larger where many lists wait: scoring
takes the caches from all else that a server does, and what comes between two
batches is done faster for many lists at once than for a few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ranker.serving.admission import Admission, FullOfBytesError, FullOfRowsError
from ranker.serving.cost import CostModel

QUANTUM = 256
"""Rows that make a list a short one, and that the others have of every batch."""

BATCH_SECONDS = 0.002
"""A batch predicted to take this long is large enough, whatever its fixed cost."""

FIXED_COST_SHARE = 0.1
"""And so is one of whose time the fixed cost is no more than this share."""

LONG_BATCH_SECONDS = 0.008
"""If many lists wait, a batch may take `BATCH_SECONDS` for each of them, and this at most.

With its fixed cost that is less than the core transport's `pump_seconds`: such batches are
scored on the loop.
"""

MIN_BATCH_ROWS = 64
"""Rows that a batch may have however long they take: engines are slow below."""


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
        waited: whether there was a wait to be predicted when it was let in.
    """

    __slots__ = ("arrived", "cancelled", "deadline", "model", "rows", "size", "taken", "waited")

    def __init__(self, model: int, rows: int, size: int, arrived: float, deadline: float) -> None:
        self.model = model
        self.rows = rows
        self.size = size
        self.arrived = arrived
        self.deadline = deadline
        self.cancelled = False
        self.taken = 0
        self.waited = False


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
        cost: the seconds that scoring them is predicted to take.
        dropped: jobs whose caller has gone or whose deadline has passed; they
            have left the queue.
    """

    model: int = -1
    pieces: list[Piece] = field(default_factory=list)
    rows: int = 0
    cost: float = 0.0
    dropped: list[Job] = field(default_factory=list)


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

    Attributes:
        admission: says who is let in in view of the deadlines.
        rows: the rows that wait.
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
        self.admission = Admission()
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

    def ahead(self, model: int, own: float = 0.0) -> float:
        """Predicted seconds of engine time before all that waits for a model is scored.

        Meanwhile each other model has what waits for it scored, but for no longer than
        this one takes, and a batch.

        Args:
            model: the index of the model.
            own: seconds for one more list of this model.
        """
        lane = self._lanes[model]
        mine = self._backlog(lane)
        return mine + sum(
            min(self._backlog(other), mine + own + other.cost.predict(self._batch_rows(other)))
            for other in self._lanes
            if other.rows and other is not lane
        )

    def admit(self, job: Job, now: float, busy: float = 0.0, unread: float = 0.0) -> None:
        """Queues a job.

        Args:
            job: what to queue.
            now: the time.
            busy: predicted seconds until the engine has finished what it does now.
            unread: seconds that the job may have waited before it arrived, which its
                deadline knows nothing of.

        Raises:
            FullOfRowsError, FullOfBytesError: it would break a bound on the queue.
                A job larger than the bound is let into an empty queue.
            TooLateError: its predicted finish is past its deadline; see
                `Admission.check`.
        """
        lane = self._lanes[job.model]
        own = lane.cost.predict(job.rows)
        self.admission.came(own)
        wait = self.admission.check(
            job.deadline, now, busy + self.ahead(job.model, own), unread, own
        )
        in_time = now + wait < job.deadline - unread
        if self.rows and self.rows + job.rows > self._max_queue_rows:
            raise FullOfRowsError("the queue is full of candidates", wait, in_time=in_time)
        if self._bytes and self._bytes + job.size > self._max_queue_bytes:
            raise FullOfBytesError("the queue is full of bytes", wait, in_time=in_time)
        if not lane.rows:
            lane.served = max(lane.served, self._served)
        job.waited = wait > 0.0
        lane.jobs.append(job)
        lane.rows += job.rows
        self.rows += job.rows
        self._bytes += job.size

    def check(self, deadline: float, now: float, busy: float = 0.0, unread: float = 0.0) -> None:
        """As `admit`, of a job of which nothing is known but its deadline.

        Raises:
            TooLateError: none that came lately would have met it.
        """
        ahead = min(self.ahead(model) for model in range(len(self._lanes)))
        self.admission.check(deadline, now, busy + ahead, unread)

    def take(self, now: float) -> Batch | None:
        """The next batch.

        Returns:
            None if nothing waits, or if what waits may still wait (`due`).
            A batch without pieces if all that waited was dropped.
        """
        if not self.rows or self.due(now) > 0.0:
            return None
        self.admission.taking(now)
        batch = Batch()
        while not batch.pieces and self.rows:
            model, lane = min(
                ((model, lane) for model, lane in enumerate(self._lanes) if lane.rows),
                key=lambda entry: entry[1].served,
            )
            self._fill(batch, lane, now)
            if batch.pieces:
                batch.model = model
                batch.cost = lane.cost.predict(batch.rows)
                self._served = lane.served
                lane.served += batch.cost
        if self.rows and not self.due(now):  # what waits for company says nothing of the pace
            self.admission.more_waits(now, batch.cost)
        return batch

    def due(self, now: float) -> float:
        """Seconds until `take` gives what waits: 0 unless there is a `max_delay`."""
        if not self._max_delay or any(lane.rows >= self._room(lane, 1) for lane in self._lanes):
            return 0.0
        oldest = min((lane.jobs[0].arrived for lane in self._lanes if lane.jobs), default=now)
        return max(0.0, oldest + self._max_delay - now)

    def _backlog(self, lane: _Lane) -> float:
        """Predicted seconds to score what waits for one model."""
        if not lane.rows:
            return 0.0
        batches = -(-lane.rows // self._room(lane, len(lane.jobs)))
        return lane.cost.predict(lane.rows) + (batches - 1) * lane.cost.fixed

    def _batch_rows(self, lane: _Lane) -> int:
        """The rows of a lane's next batch, at most."""
        return min(lane.rows, self._room(lane, len(lane.jobs)))

    def _room(self, lane: _Lane, lists: int) -> int:
        """The most rows of a lane's next batch if so many lists wait."""
        cost = lane.cost
        if not cost.per_row:
            return self._max_batch_rows
        seconds = min(BATCH_SECONDS * lists, LONG_BATCH_SECONDS)
        enough = max(seconds, cost.fixed / FIXED_COST_SHARE)
        return min(self._max_batch_rows, max(MIN_BATCH_ROWS, round(enough / cost.per_row)))

    def _fill(self, batch: Batch, lane: _Lane, now: float) -> None:
        """Moves rows from a lane into a batch until it is full: short lists first.

        Of the long ones the first to come has room kept for it; what is left over is
        theirs in the order of arrival.
        """
        room = self._room(lane, len(lane.jobs))
        kept = 0
        long: list[Job] = []
        while room and lane.jobs:
            job = lane.jobs.popleft()
            left = job.rows - job.taken
            if job.cancelled or job.deadline <= now:
                batch.dropped.append(job)
                job.taken = job.rows
                self._leaves(lane, job, left)
            elif left > QUANTUM:
                if not long:
                    kept = min(QUANTUM, room // 2)
                    room -= kept
                long.append(job)
            else:
                room -= self._put(batch, lane, job, room)
                if job.taken < job.rows:
                    lane.jobs.appendleft(job)
        room += kept
        for job in long:
            room -= self._put(batch, lane, job, room)
        lane.jobs.extendleft(job for job in reversed(long) if job.taken < job.rows)

    def _put(self, batch: Batch, lane: _Lane, job: Job, room: int) -> int:
        """Puts what there is room for of a job into a batch, and says how many rows that is."""
        rows = min(job.rows - job.taken, room)
        if rows:
            batch.pieces.append(Piece(job, job.taken, job.taken + rows))
            batch.rows += rows
            job.taken += rows
            self._leaves(lane, job, rows)
        return rows

    def _leaves(self, lane: _Lane, job: Job, rows: int) -> None:
        """So many rows of a job no longer wait."""
        lane.rows -= rows
        self.rows -= rows
        if job.taken == job.rows:
            self._bytes -= job.size
