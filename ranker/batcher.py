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

from ranker.cost import CostModel
from ranker.errors import OverloadedError

QUANTUM = 256
"""Rows that one list may put into a batch before the others had their turn."""

BATCH_SECONDS = 0.002
"""A batch predicted to take this long is large enough, whatever its fixed cost."""

LONG_BATCH_SECONDS = 0.008
"""If many lists wait, a batch may take `BATCH_SECONDS` for each of them, and this at most."""

FIXED_COST_SHARE = 0.1
"""And so is one of whose time the fixed cost is no more than this share."""

MIN_BATCH_ROWS = 64
"""Rows that a batch may have however long they take: engines are slow below."""

PACE_MEMORY = 0.9
"""Weight of the past at each measurement of the pace: the last ten batches count most."""

PACE_OUTLIER = 4.0
"""A batch that took this many times what the pace says was held up by something else."""

LEAST_MEMORY = 128
"""Jobs until the least is forgotten that scoring one took."""

HEADROOM = (1.5, 4.0)
"""How much longer than predicted a wait may be before a deadline is missed: least and most."""

LATE_SHARE = 0.01
"""Lists that had to wait and then missed their deadline, of all: the headroom aims at this."""

HEADROOM_STEP = 0.05
"""What one that was late adds to the headroom."""


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

    def add(self, piece: Piece) -> None:
        """Appends a piece; one that goes on where the last one ended becomes part of it."""
        self.rows += piece.stop - piece.start
        if self.pieces and self.pieces[-1].job is piece.job:
            piece = piece._replace(start=self.pieces.pop().start)
        self.pieces.append(piece)


class RefusedError(OverloadedError):
    """A job is not let into the queue.

    Attributes:
        reason: which bound it would break, in a word, to count it under.
    """

    reason = ""


class FullOfRowsError(RefusedError):
    """The queue may hold no more rows."""

    reason = "queue_rows"


class FullOfBytesError(RefusedError):
    """The queue may hold no more bytes."""

    reason = "queue_bytes"


class TooLateError(RefusedError):
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

    Attributes:
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
        self._lanes = [_Lane(cost) for cost in costs]
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._max_queue_bytes = max_queue_bytes
        self._max_delay = max_delay
        self._bytes = 0
        self._served = 0.0  # virtual time of the batch taken last
        self.rows = 0
        self._headroom = HEADROOM[0]
        self._pace = 1.0
        self._taken_at = 0.0  # when the last batch was taken
        self._pacing = 0.0  # what it was to cost, if more waited then
        self._least = 0.0  # predicted seconds to score a small job

    def cost(self, model: int) -> CostModel:
        """The cost model of one model."""
        return self._lanes[model].cost

    def backlog(self) -> float:
        """Predicted seconds of engine time for all that waits."""
        return sum(
            lane.cost.predict(lane.rows) + (lane.rows - 1) // self._room(lane) * lane.cost.fixed
            for lane in self._lanes
            if lane.rows
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
            TooLateError: its predicted finish is past its deadline. Never
                raised while the engine is idle: a prediction that has gone
                wrong must be able to learn.
        """
        lane = self._lanes[job.model]
        own = lane.cost.predict(job.rows)
        self._least = min(own, self._least + own / LEAST_MEMORY)
        wait = self.check(job.deadline, now, busy, unread, own)
        in_time = now + wait < job.deadline
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

    def check(
        self,
        deadline: float,
        now: float,
        busy: float = 0.0,
        unread: float = 0.0,
        own: float | None = None,
    ) -> float:
        """How long a job that came now would wait.

        Args:
            deadline: the job's.
            now: as for `admit`.
            busy: likewise.
            unread: likewise.
            own: predicted seconds to score it; None, as of one that is not read yet, is
                as little as that was for any job lately.

        Raises:
            TooLateError: its predicted finish is past its deadline; see `admit`.
        """
        wait = (busy + self.backlog()) * self._pace
        if own is None:
            own = self._least
        finish = now + self._headroom * wait + self._pace * own
        if finish > deadline - unread and wait > 0.0:
            raise TooLateError("the deadline can't be met", wait, in_time=now + wait < deadline)
        return wait

    def ended(self, *, in_time: bool) -> None:
        """Learns whether a list that had to wait got its answer before its deadline.

        How late answers are, no prediction can know: there is the way to the
        caller and back, and whatever else runs on the machine. So the headroom
        follows a quantile, up with each list that is late and down with each
        that isn't, in the proportion in which that may happen.

        A list that was let in because nothing waited (`Job.waited`) tells
        nothing: no headroom would have kept it out.
        """
        step = -LATE_SHARE * HEADROOM_STEP if in_time else HEADROOM_STEP
        self._headroom = min(max(HEADROOM[0], self._headroom + step), HEADROOM[1])

    def take(self, now: float) -> Batch | None:
        """The next batch.

        Returns:
            None if nothing waits, or if what waits may still wait (`due`).
            A batch without pieces if all that waited was dropped.
        """
        if not self.rows or self.due(now) > 0.0:
            return None
        self._measure_pace(now)
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
            self._taken_at, self._pacing = now, batch.cost
        return batch

    def due(self, now: float) -> float:
        """Seconds until `take` gives what waits: 0 unless there is a `max_delay`."""
        if not self._max_delay or any(lane.rows >= self._room(lane) for lane in self._lanes):
            return 0.0
        oldest = min((lane.jobs[0].arrived for lane in self._lanes if lane.jobs), default=now)
        return max(0.0, oldest + self._max_delay - now)

    def _measure_pace(self, now: float) -> None:
        """Notes how long the batch before this one took, if lists waited all the time.

        More passes from batch to batch than scoring: requests are read and
        refused, answers are written, other processes run. The ratio to the
        predicted cost is the pace at which a queue moves. Where nothing waited it
        fades, or else one pause of the machine could keep out whatever would
        have shown that it is over.
        """
        pace = 1.0
        if self._pacing:
            pace = min((now - self._taken_at) / self._pacing, PACE_OUTLIER * self._pace)
            self._pacing = 0.0
        self._pace = max(1.0, PACE_MEMORY * self._pace + (1.0 - PACE_MEMORY) * pace)

    def _room(self, lane: _Lane) -> int:
        """The most rows of a lane's next batch."""
        cost = lane.cost
        if not cost.per_row:
            return self._max_batch_rows
        seconds = min(BATCH_SECONDS * max(1, len(lane.jobs)), LONG_BATCH_SECONDS)
        enough = max(seconds, cost.fixed / FIXED_COST_SHARE)
        return min(self._max_batch_rows, max(MIN_BATCH_ROWS, round(enough / cost.per_row)))

    def _fill(self, batch: Batch, lane: _Lane, now: float) -> None:
        """Moves rows from a lane into a batch, round by round, until it is full."""
        room = self._room(lane)
        turned: list[Job] = []  # those that had their turn, and want another
        while room and lane.jobs:
            job = lane.jobs.popleft()
            left = job.rows - job.taken
            if job.cancelled or job.deadline <= now:
                batch.dropped.append(job)
                rows = left
            else:
                alone = not lane.jobs and not turned
                rows = min(left, room if alone else min(room, QUANTUM))
                batch.add(Piece(job, job.taken, job.taken + rows))
                job.taken += rows
                room -= rows
            lane.rows -= rows
            self.rows -= rows
            if rows == left:
                self._bytes -= job.size
            elif rows < QUANTUM:  # cut short by the end of the batch
                lane.jobs.appendleft(job)
            else:
                turned.append(job)
            if not lane.jobs:
                lane.jobs.extend(turned)
                turned.clear()
        lane.jobs.extend(turned)
