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

import math
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

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

With its fixed cost that is less than the core transport's `longest_batch`: such batches are
scored on the loop.
"""

MANY_LISTS = round(LONG_BATCH_SECONDS / BATCH_SECONDS)
"""From so many lists on more of them make no longer batch."""

MIN_BATCH_ROWS = 64
"""Rows that a batch may have however long they take: engines are slow below."""


class Queued(Protocol):
    """What can be queued: a candidate list.

    Attributes:
        lane: the queue of its model.
        rows: how many candidates it has, at least 1.
        size: the bytes that it holds while it waits.
        arrived: when it came, in seconds of the caller's clock.
        deadline: when its caller stops waiting, on the same clock; `inf`: never.
        cancelled: set once nobody wants the answer; it is then dropped before it
            is scored.
        taken: how many of its rows are in batches already.
        waited: whether there was a wait to be predicted when it was let in.
    """

    lane: Lane[Any]
    rows: int
    size: int
    arrived: float
    deadline: float
    cancelled: bool
    taken: int
    waited: bool


T = TypeVar("T", bound=Queued)


class Lane(Generic[T]):
    """One model's part of the queue.

    Args:
        max_batch_rows: the most rows of a batch.

    Attributes:
        cost: predicts what a batch costs; feed it by `learn`.
        tasks: what waits, in the order in which it is served.
        rows: the rows that wait.
        room: the most rows of the next batch; `count` sees how many these are.
        most_room: the most rows of a batch when many lists wait.
        engine_seconds: predicted engine time given so far, on the queue's virtual clock.
    """

    __slots__ = (
        "_max_batch_rows",
        "_rooms",
        "cost",
        "engine_seconds",
        "most_room",
        "room",
        "rows",
        "tasks",
    )

    def __init__(self, max_batch_rows: int) -> None:
        self.cost = CostModel()
        self.tasks: deque[T] = deque()
        self.rows = 0
        self.engine_seconds = 0.0
        self._max_batch_rows = max_batch_rows
        self._rooms: list[int] = []
        self.forecast()

    def learn(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""
        self.cost.observe(rows, seconds)
        self.forecast()

    def forecast(self) -> None:
        """Works out the sizes of batches from the cost model, after this has changed."""
        self._rooms = [self._room_for(lists) for lists in range(MANY_LISTS + 1)]
        self.most_room = self._rooms[MANY_LISTS]
        self.count()

    def count(self) -> None:
        """Sees how large the next batch may be, after lists have come or gone."""
        self.room = self._rooms[min(len(self.tasks), MANY_LISTS)]

    def is_full(self) -> bool:
        """Whether what waits fills a batch that need not wait for company."""
        return self.rows >= self._rooms[1]

    def backlog(self) -> float:
        """Predicted seconds to score all that waits here."""
        batches = -(-self.rows // self.room)
        return self.cost.per_row * self.rows + self.cost.fixed * batches

    def next_batch(self) -> float:
        """Predicted seconds to score the next batch."""
        return self.cost.predict(min(self.rows, self.room))

    def _room_for(self, lists: int) -> int:
        cost = self.cost
        if not cost.per_row:
            return self._max_batch_rows
        seconds = min(BATCH_SECONDS * max(lists, 1), LONG_BATCH_SECONDS)
        enough = max(seconds, cost.fixed / FIXED_COST_SHARE)
        return min(self._max_batch_rows, max(MIN_BATCH_ROWS, round(enough / cost.per_row)))


class Batch(Generic[T]):
    """What to score next with one model, and what was dropped on the way.

    Attributes:
        pieces: the lists' shares of the batch, in the order of scoring: each a list,
            and its rows from where to where; none if all that waited was dropped.
        rows: the rows of all pieces.
        cost: the seconds that scoring them is predicted to take.
        dropped: lists whose caller has gone or whose deadline has passed; they
            have left the queue.
    """

    __slots__ = ("cost", "dropped", "pieces", "rows")

    def __init__(self) -> None:
        self.pieces: list[tuple[T, int, int]] = []
        self.rows = 0
        self.cost = 0.0
        self.dropped: list[T] = []


class Queue(Generic[T]):
    """Queues lists and forms batches.

    Args:
        max_rows: the most rows that may wait.
        max_bytes: the most bytes that waiting lists may hold.
        max_delay: seconds that a batch with room left may wait for company; 0
            is the rule above.

    Attributes:
        admission: says who is let in in view of the deadlines.
        rows: the rows that wait.
        busy_until: when the engines will have finished what they do, by prediction.
        unread_since: since when what is read now may have waited: the loop scored, and read
            nothing. That is the most that it may be: a caller of tight deadlines that had the
            loop to itself is charged what it never waited.
        read_until: when the loop is through with what gathered meanwhile. It reads in no
            particular order, and is taken to need as long again.
    """

    def __init__(self, *, max_rows: int, max_bytes: int, max_delay: float = 0.0) -> None:
        self.admission = Admission()
        self.rows = 0
        self.busy_until = self.unread_since = self.read_until = -math.inf
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._max_delay = max_delay
        self._lanes: dict[Lane[T], None] = {}  # those in which something waits
        self._bytes = 0
        self._served = 0.0  # virtual time of the batch taken last

    def ahead(self, lane: Lane[T], own: float = 0.0) -> float:
        """Predicted seconds of engine time before all that waits in a lane is scored.

        Meanwhile each other model has what waits for it scored, but for no longer than
        this one takes, and a batch.

        Args:
            lane: which.
            own: seconds for one more list of it.
        """
        # `lane.backlog()`, written out: every list that comes while others wait asks.
        cost = lane.cost
        mine = seconds = cost.per_row * lane.rows + cost.fixed * -(-lane.rows // lane.room)
        for other in self._lanes:
            if other is not lane:
                seconds += min(other.backlog(), mine + own + other.next_batch())
        return seconds

    def admit(self, task: T, now: float) -> None:
        """Queues a list.

        Args:
            task: what to queue.
            now: the time.

        Raises:
            FullOfRowsError, FullOfBytesError: it would break a bound on the queue.
                A list larger than the bound is let into an empty queue.
            TooLateError: its predicted finish is past its deadline; see
                `Admission.check`.
        """
        lane: Lane[T] = task.lane
        own = lane.cost.fixed + lane.cost.per_row * task.rows
        wait = 0.0
        busy, unread = self._before(now)
        if self.rows or busy:
            ahead = busy + self.ahead(lane, own)
            wait = self.admission.check(task.deadline, now, ahead, unread, own)
            in_time = now + wait < task.deadline - unread
            if self.rows and self.rows + task.rows > self._max_rows:
                raise FullOfRowsError("the queue is full of candidates", wait, in_time=in_time)
            if self._bytes and self._bytes + task.size > self._max_bytes:
                raise FullOfBytesError("the queue is full of bytes", wait, in_time=in_time)
        if not lane.rows:
            lane.engine_seconds = max(lane.engine_seconds, self._served)
            self._lanes[lane] = None
        task.waited = wait > 0.0
        lane.tasks.append(task)
        lane.rows += task.rows
        if lane.room < lane.most_room:
            lane.count()
        self.rows += task.rows
        self._bytes += task.size

    def check_unread(self, deadline: float, now: float, models: int = 1) -> None:
        """As `admit`, of a list of which nothing is known but its deadline.

        Args:
            deadline: when its caller stops waiting.
            now: the time.
            models: how many models there are: it may be for one for which nothing waits.

        Raises:
            TooLateError: none that came lately would have met it.
        """
        if len(self._lanes) == models == 1:
            ahead = self.ahead(next(iter(self._lanes)))
        else:
            # That of the lane with the least to do: it grows with what a lane has to do itself.
            backlogs = {lane: lane.backlog() for lane in self._lanes}
            least = 0.0 if len(backlogs) < models else min(backlogs.values())
            ahead = sum(
                min(backlog, least + lane.next_batch()) for lane, backlog in backlogs.items()
            )
        busy, unread = self._before(now)
        self.admission.check(deadline, now, busy + ahead, unread, self.admission.least)

    def _before(self, now: float) -> tuple[float, float]:
        """Seconds that the engines are still busy, and that what comes now may have waited."""
        busy = self.busy_until - now
        unread = now - self.unread_since if now < self.read_until else 0.0
        return (busy if busy > 0.0 else 0.0), unread

    def take(self, now: float) -> Batch[T] | None:
        """The next batch.

        Returns:
            None if nothing waits, or if what waits may still wait (`due`).
            A batch without pieces if all that waited was dropped.
        """
        if not self.rows or self.due(now) > 0.0:
            return None
        self.admission.on_batch_start(now)
        batch: Batch[T] = Batch()
        while not batch.pieces and self.rows:
            lane = min(self._lanes, key=lambda lane: lane.engine_seconds)
            self._fill(batch, lane, now)
            lane.count()
            if not lane.rows:
                del self._lanes[lane]
            if batch.pieces:
                batch.cost = lane.cost.predict(batch.rows)
                self._served = lane.engine_seconds
                lane.engine_seconds += batch.cost
        if self.rows and not self.due(now):  # what waits for company says nothing of the pace
            self.admission.on_more_waiting(now, batch.cost)
        return batch

    def due(self, now: float) -> float:
        """Seconds until `take` gives what waits: 0 unless there is a `max_delay`."""
        if not self._max_delay or any(lane.is_full() for lane in self._lanes):
            return 0.0
        oldest = min((lane.tasks[0].arrived for lane in self._lanes), default=now)
        return max(0.0, oldest + self._max_delay - now)

    def _fill(self, batch: Batch[T], lane: Lane[T], now: float) -> None:
        """Moves rows from a lane into a batch until it is full: short lists first.

        Of the long ones the first to come has room kept for it; what is left over is
        theirs in the order of arrival.
        """
        room = lane.room
        kept = 0
        long: list[T] = []
        while room and lane.tasks:
            task = lane.tasks.popleft()
            left = task.rows - task.taken
            if task.cancelled or task.deadline <= now:
                batch.dropped.append(task)
                self._leave(lane, task, left)
            elif left <= QUANTUM and left <= room:
                batch.pieces.append((task, task.taken, task.rows))
                batch.rows += left
                room -= left
                self._leave(lane, task, left)
            elif left > QUANTUM:
                if not long:
                    kept = min(QUANTUM, room // 2)
                    room -= kept
                long.append(task)
            else:
                room -= self._put(batch, lane, task, room)
                if task.taken < task.rows:
                    lane.tasks.appendleft(task)
        room += kept
        for task in long:
            room -= self._put(batch, lane, task, room)
        lane.tasks.extendleft(task for task in reversed(long) if task.taken < task.rows)

    def _put(self, batch: Batch[T], lane: Lane[T], task: T, room: int) -> int:
        """Puts what there is room for of a list into a batch, and says how many rows that is."""
        left = task.rows - task.taken
        rows = left if left < room else room
        if rows:
            batch.pieces.append((task, task.taken, task.taken + rows))
            batch.rows += rows
            self._leave(lane, task, rows)
        return rows

    def _leave(self, lane: Lane[T], task: T, rows: int) -> None:
        """So many rows of a list no longer wait."""
        task.taken += rows
        lane.rows -= rows
        self.rows -= rows
        if task.taken == task.rows:
            self._bytes -= task.size
