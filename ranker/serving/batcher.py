"""A batcher: one model's part of the queue, and the batches that it makes of it.

Lists are served in order of arrival, but those of at most `QUANTUM` rows before the longer ones:
a list of thousands delays a list of ten by one batch and not by its whole length. The longer ones
have a part of each batch, so that short lists can't starve them, and no more than another part;
once no more than `QUANTUM` rows are left of one, it queues up with the short ones.

A batch is no larger than pays: once its rows take ten times as long as the
fixed cost of a batch, more of them save nothing, and only make the first list
of the batch wait for the last. It is larger where many lists wait: scoring
takes the caches from all else that a server does, and what comes between two
batches is done faster for many lists at once than for a few.

Pure logic: it reads no clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ranker.serving.cost import CostModel

if TYPE_CHECKING:
    from ranker.serving.quotas import CallerQuota

QUANTUM = 256
"""Rows that make a list a short one."""

LONG_LISTS_PART = 16
"""Longer lists have this part of a batch's room, or a quantum if that is more, but no more than
half of it."""

LONG_LISTS_ROWS = 1024
"""Beyond that they have only what is left of so many rows, or of that part of the most rows of a
batch if this is more: a short list that comes meanwhile waits for the batch."""

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

_SECONDS = [BATCH_SECONDS * max(lists, 1) for lists in range(MANY_LISTS)]
"""That a batch may take if so many lists wait, whatever its fixed cost."""

MIN_BATCH_ROWS = 64
"""Rows that a batch may have however long they take: engines are slow below."""


class Queued(Protocol):
    """What can be queued: a candidate list.

    Attributes:
        batcher: the queue of its model.
        rows: how many candidates it has, at least 1.
        size: the bytes that it holds while it waits.
        arrived: when it came, in seconds of the caller's clock.
        deadline: when its caller stops waiting, on the same clock; `inf`: never.
        cancelled: set once nobody wants the answer; it is then dropped before it
            is scored.
        taken: how many of its rows are in batches already.
        waited: whether there was a wait to be predicted when it was let in.
        holder: the caller that it is counted for (`ConnectionShares`); empty: none.
        quota: what its caller may take; None: anything.
    """

    batcher: Batcher[Any]
    rows: int
    size: int
    arrived: float
    deadline: float
    cancelled: bool
    taken: int
    waited: bool
    holder: str
    quota: CallerQuota | None

    def holder_name(self) -> str:
        """Whom it is counted for: its caller, by name, or else its connection."""


T = TypeVar("T", bound=Queued)


class Batch(Generic[T]):
    """What to score next with one model, and what was dropped on the way.

    Attributes:
        pieces: the lists' shares of the batch, in the order of scoring: each a list,
            and its rows from where to where; none if all that waited was dropped.
            A list has one piece.
        rows: the rows of all pieces.
        lists: how many lists these are; of one that takes several batches each has a part.
        is_capped: whether it has as many rows of longer lists as it may have, and more wait.
        cost: the seconds that scoring them is predicted to take.
        dropped: lists whose caller has gone or whose deadline has passed.
        left: lists that no longer wait: all of their rows are in batches, or they
            were dropped.
    """

    __slots__ = ("cost", "dropped", "is_capped", "left", "lists", "pieces", "rows")

    def __init__(self) -> None:
        self.pieces: list[tuple[T, int, int]] = []
        self.rows = 0
        self.lists = self.cost = 0.0
        self.is_capped = False
        self.dropped: list[T] = []
        self.left: list[T] = []


class Batcher(Generic[T]):
    """One model's part of the queue.

    Args:
        max_batch_rows: the most rows of a batch.
        splits_long: whether `LONG_LISTS_ROWS` holds: short lists wait for the batches of longer
            ones. Where an engine works on several at once, longer ones may fill a batch.

    Attributes:
        cost: predicts what a batch costs; feed it what batches took.
        rows: the rows that wait.
        engine_seconds: predicted engine time given so far, on the queue's virtual clock.
    """

    __slots__ = (
        "_least_room",
        "_lists",
        "_long",
        "_max_batch_rows",
        "_most_long_rows",
        "_short",
        "_short_rows",
        "cost",
        "engine_seconds",
        "rows",
    )

    def __init__(self, max_batch_rows: int, *, splits_long: bool = True) -> None:
        self.cost = CostModel()
        self.rows = 0
        self.engine_seconds = 0.0
        self._short: deque[T] = deque()
        self._long: deque[T] = deque()
        self._lists = 0  # that wait, short and long
        self._short_rows = 0
        self._max_batch_rows = max_batch_rows
        self._least_room = min(MIN_BATCH_ROWS, max_batch_rows)
        self._most_long_rows = max_batch_rows
        if splits_long:
            self._most_long_rows = max(LONG_LISTS_ROWS, max_batch_rows // LONG_LISTS_PART)

    def fuller_saves(self, batch: Batch[T], most_rows: int) -> float:
        """Seconds that a batch takes beyond its part of one of so many rows."""
        return self.cost.fixed * max(0.0, 1.0 - batch.rows / most_rows)

    def most_rows(self, batch: Batch[T]) -> int:
        """The rows of a batch if many lists wait that are as long as those of this one."""
        if batch.is_capped:
            return batch.rows
        room = self._room(MANY_LISTS)
        is_of_long = batch.rows > QUANTUM * batch.lists
        return min(room, self._most_long_rows) if is_of_long else room

    def add(self, task: T) -> None:
        """Queues a list."""
        rows = task.rows
        self.rows += rows
        self._lists += 1
        if rows <= QUANTUM:
            self._short.append(task)
            self._short_rows += rows
        else:
            self._long.append(task)

    def is_full(self) -> bool:
        """Whether what waits fills a batch that need not wait for company."""
        long = self.rows - self._short_rows
        return self.rows >= self._room(1) or long >= self._most_long_rows

    def oldest(self) -> float:
        """When the list came that has waited longest; call it while one waits."""
        return min(lists[0].arrived for lists in (self._short, self._long) if lists)

    def backlog(self) -> float:
        """Predicted seconds to score all that waits here."""
        return self.ahead_of(QUANTUM + 1)

    def ahead_of(self, rows: int) -> float:
        """Predicted seconds to score what is served before a list of so many rows that comes now.

        A short one is in one of the next batches, as many as the short ones fill with
        the room that they have; longer ones may have the rest of each. A longer one follows all.
        """
        ahead = self.rows
        if ahead <= self._least_room and not self._long:  # they fit one batch
            return self.cost.per_row * ahead + self.cost.fixed if ahead else 0.0
        room = self._room(self._lists)
        if not self._long:
            return self.cost.per_row * ahead + self.cost.fixed * -(-ahead // room)
        is_short = rows <= QUANTUM
        kept = self._kept(room)
        short = self._short_rows + (rows if is_short else 0)
        batches = -(-short // (room - kept))
        long = 0
        if short:
            in_last = short - (batches - 1) * (room - kept)
            long = (batches - 1) * kept + self._long_rows(room, in_last)
        if is_short:
            ahead = min(ahead, self._short_rows + long)
        else:
            batches += -(-max(0, ahead - short - long) // self._long_rows(room, 0))
        return self.cost.per_row * ahead + self.cost.fixed * batches

    def rows_for(self, seconds: float) -> int:
        """How many rows a list has that is predicted to take so long; at least 1."""
        cost = self.cost
        return max(1, round((seconds - cost.fixed) / cost.per_row)) if cost.per_row else 1

    def next_batch(self) -> float:
        """Predicted seconds to score the next batch."""
        room = self._room(self._lists)
        short = min(self._short_rows, room - self._kept(room))
        long = min(self.rows - self._short_rows, self._long_rows(room, short))
        return self.cost.predict(short + long)

    def fill(self, batch: Batch[T], now: float) -> None:
        """Moves rows into a batch until it is full: short lists first."""
        if self.rows <= self._least_room and not self._long:
            self._move(self._short, batch, self._least_room, now)
            return
        room = self._room(self._lists)
        kept = self._kept(room)
        left = kept + self._move(self._short, batch, room - kept, now)
        if self._long:
            most = self._long_rows(room, room - left)
            unused = self._move(self._long, batch, most, now)
            batch.is_capped = most < left and not unused and bool(self._long)
        if self._long and self._long[0].rows - self._long[0].taken <= QUANTUM:
            first = self._long.popleft()
            self._short.append(first)
            self._short_rows += first.rows - first.taken

    def _move(self, lists: deque[T], batch: Batch[T], room: int, now: float) -> int:
        """Moves rows of lists into a batch. Returns the room that is left."""
        moved = 0
        pieces = batch.pieces
        while room and lists:
            task = lists[0]
            taken = task.taken
            rows = task.rows - taken
            if task.cancelled or task.deadline <= now:
                batch.dropped.append(task)
            else:
                rows = min(rows, room)
                room -= rows
                batch.rows += rows
                batch.lists += rows / task.rows
                pieces.append((task, taken, taken + rows))
            moved += rows
            task.taken = taken + rows
            if task.taken == task.rows:
                batch.left.append(lists.popleft())
                self._lists -= 1
        self.rows -= moved
        if lists is self._short:
            self._short_rows -= moved
        return room

    def _kept(self, room: int) -> int:
        """The rows that longer lists have of a batch with so much room, whoever else waits."""
        part = min(room // 2, max(QUANTUM, room // LONG_LISTS_PART))
        return min(part, self.rows - self._short_rows)

    def _long_rows(self, room: int, short: int) -> int:
        """The rows that longer lists may have of such a batch, beside so many of short ones."""
        return min(room - short, max(self._kept(room), self._most_long_rows - short))

    def _room(self, lists: int) -> int:
        """The rows that a batch may have if so many lists wait."""
        cost, most = self.cost, self._max_batch_rows
        if not cost.per_row:
            return most
        seconds = _SECONDS[lists] if lists < MANY_LISTS else LONG_BATCH_SECONDS
        enough = cost.fixed / FIXED_COST_SHARE
        rows = round((enough if enough > seconds else seconds) / cost.per_row)
        if rows < MIN_BATCH_ROWS:
            rows = MIN_BATCH_ROWS
        return rows if rows < most else most
