"""The queue: candidate lists come in one by one and leave in batches.

Pure logic. It knows how many rows a list has, when its caller stops waiting
and what a batch is predicted to cost; it starts no thread and reads no clock.

    admit(list):  refuse it, if the queue is full or its deadline can't be met
    take():       the next batch for an engine that is idle now

One rule: *whatever waits when the engine falls idle is the next batch.* Lists
gather only while the engine is busy, so nothing ever waits for a timer (but
see `max_delay`).

Who is served next: between models, the one that has had the least engine time (start-time fair
queueing, Goyal et al., SIGCOMM 1996), so that a slow model can't starve a fast one; within a
model, see `ranker.serving.batcher`.
"""

from __future__ import annotations

import math
from typing import Generic

from ranker.serving.admission import (
    Admission,
    FullOfBytesError,
    FullOfRowsError,
    FullShareError,
)
from ranker.serving.batcher import Batch, Batcher, T
from ranker.serving.connection_shares import LAST, ConnectionShares
from ranker.serving.quotas import OverQuotaError


class Queue(Generic[T]):
    """Queues lists and forms batches.

    Args:
        max_rows: the most rows that may wait.
        max_bytes: the most bytes that waiting lists may hold.
        max_delay: seconds that a batch with room left may wait for company; 0
            is the rule above.

    Attributes:
        admission: says who is let in in view of the deadlines.
        max_delay: likewise; it may be changed.
        rows: the rows that wait.
        crowded: whether so much waits that it matters whose it is.
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
        self.crowded = False
        self.busy_until = self.unread_since = self.read_until = -math.inf
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.max_delay = max_delay
        self._shares = ConnectionShares(max_rows, max_bytes)
        self._batchers: dict[Batcher[T], None] = {}  # those in which something waits
        self._bytes = 0
        self._served = 0.0  # virtual time of the batch taken last

    def others_before(self, batcher: Batcher[T], seconds: float) -> float:
        """Predicted seconds that other models are scored before a list is that comes now.

        Each has what waits for it scored, but for no longer than the list's own model, and a batch.

        Args:
            batcher: the list's.
            seconds: that its own model is scored until the list is.
        """
        others = (other for other in self._batchers if other is not batcher)
        return sum(min(other.backlog(), seconds + other.next_batch()) for other in others)

    def admit(self, task: T, now: float) -> None:
        """Queues a list.

        Args:
            task: what to queue.
            now: the time.

        Raises:
            FullOfRowsError, FullOfBytesError: it would break a bound on the queue.
                A list larger than the bound is let into an empty queue.
            FullShareError: its connection has its share of a queue that fills.
            OverQuotaError: its caller has its part of the queue. A list larger than that is let
                in if none of the caller's waits.
            TooLateError: its predicted finish is past its deadline; see
                `Admission.check`.
        """
        batcher: Batcher[T] = task.batcher
        shares = self._shares
        rows, size = self.rows + task.rows, self._bytes + task.size
        wait = 0.0
        busy = self.busy_until - now
        unread = now - self.unread_since if now < self.read_until else 0.0
        if self.rows or busy > 0.0:
            own = batcher.cost.fixed + batcher.cost.per_row * task.rows
            mine = batcher.ahead_of(task.rows)
            ahead = busy + mine if busy > 0.0 else mine
            if len(self._batchers) > (batcher in self._batchers):
                ahead += self.others_before(batcher, mine + own)
            wait = self.admission.check(task.deadline, now, ahead, unread, own, task.rows)
            if self.rows and (rows > shares.divided_rows or size > shares.divided_bytes):
                in_time = now + wait < task.deadline - unread
                self._check_bounds(task, task.rows, task.size, wait, in_time)
        quota = task.quota
        if quota is not None:
            if quota.rows and not quota.has_room(
                task.rows, task.size, self._max_rows, self._max_bytes
            ):
                in_time = now + wait < task.deadline - unread
                raise OverQuotaError("this caller has its part of the queue", wait, in_time=in_time)
            quota.hold(1, task.rows, task.size)
        if not batcher.rows:
            batcher.engine_seconds = max(batcher.engine_seconds, self._served)
            self._batchers[batcher] = None
        task.waited = wait > 0.0
        batcher.add(task)
        self.rows, self._bytes = rows, size
        if rows > shares.noted_rows or size > shares.noted_bytes:
            self.crowded = True
            shares.take(task)

    def check_unread(self, task: T, now: float, models: int = 1) -> None:
        """As `admit`, of a list of which nothing is known but its deadline and its connection.

        One without a deadline can only be refused while the queue is `crowded`. If nothing waits of
        its connection it may be shorter than all that came lately.

        Args:
            task: the list.
            now: the time.
            models: how many models there are: it may be for one for which nothing waits.

        Raises:
            RefusedError: none that came lately would have been let in.
        """
        own, rows = self.admission.least, self.admission.least_rows
        least_rows = int(rows)
        if len(self._batchers) == models == 1:
            [batcher] = self._batchers
            ahead = batcher.ahead_of(least_rows)
        else:
            waits = {batcher: batcher.ahead_of(least_rows) for batcher in self._batchers}
            # That of the model with the least to do: it grows with what a model has to do itself.
            least = 0.0 if len(waits) < models else min(waits.values())
            ahead = sum(min(wait, least + batcher.next_batch()) for batcher, wait in waits.items())
        busy = max(0.0, self.busy_until - now)
        unread = now - self.unread_since if now < self.read_until else 0.0
        wait = self.admission.check(task.deadline, now, busy + ahead, unread, own, rows)
        fewest = least_rows if self._shares.holds(task.holder_name()) else 1
        self._check_bounds(task, fewest, 0, wait, now + wait < task.deadline - unread)

    def _check_bounds(self, task: T, rows: int, size: int, wait: float, in_time: bool) -> None:
        """Raises RefusedError if what waits together with so much more breaks a bound."""
        rows_then, bytes_then = self.rows + rows, self._bytes + size
        if rows_then > self._max_rows:
            raise FullOfRowsError("the queue is full of candidates", wait, in_time=in_time)
        if bytes_then > self._max_bytes:
            raise FullOfBytesError("the queue is full of bytes", wait, in_time=in_time)
        shares = self._shares
        crowded = rows_then > shares.divided_rows or bytes_then > shares.divided_bytes
        last = rows_then > shares.last_rows or bytes_then > shares.last_bytes
        part = LAST if last else 1.0
        if crowded and not shares.has_room(task.holder_name(), rows, size, part):
            text = "this connection has its share of a queue that fills"
            raise FullShareError(text, wait, in_time=in_time)

    def take(self, now: float) -> Batch[T] | None:
        """The next batch.

        Returns:
            None if nothing waits, or if what waits may still wait (`due`).
            A batch without pieces if all that waited was dropped.
        """
        if not self.rows or (self.max_delay and self.due(now) > 0.0):
            return None
        self.admission.on_batch_start(now)
        batch: Batch[T] = Batch()
        while not batch.pieces and self.rows:
            if len(self._batchers) == 1:
                [batcher] = self._batchers
            else:
                batcher = min(self._batchers, key=lambda batcher: batcher.engine_seconds)
            before = batcher.rows
            batcher.fill(batch, now)
            self.rows -= before - batcher.rows
            if not batcher.rows:
                del self._batchers[batcher]
            if batch.pieces:
                batch.cost = batcher.cost.predict(batch.rows)
                self._served = batcher.engine_seconds
                batcher.engine_seconds += batch.cost
        for task in batch.left:
            self._bytes -= task.size
            if task.quota is not None:
                task.quota.hold(-1, task.rows, task.size)
            if task.holder:
                self._shares.give_back(task)
        self.crowded = self.rows > self._shares.noted_rows or self._bytes > self._shares.noted_bytes
        if self.rows and not self.due(now):  # what waits for company says nothing of the pace
            self.admission.on_more_waiting(now, batch.cost)
        return batch

    def due(self, now: float) -> float:
        """Seconds until `take` gives what waits: 0 unless there is a `max_delay`."""
        if not self.max_delay or any(batcher.is_full() for batcher in self._batchers):
            return 0.0
        oldest = min((batcher.oldest() for batcher in self._batchers), default=now)
        return max(0.0, oldest + self.max_delay - now)
