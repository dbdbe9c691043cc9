"""How much of the queue one connection may have, so that one caller can't keep all others out.

Until the queue is a quarter full nobody is asked who they are. From half on its room is divided:
each connection of which lists wait has the same share, beside what it has of the first quarter, and
one share is kept free for who comes next; so one that waits alone may have half. What was let in
while there was more room stays. The room for lists that are to be explained is divided in the same
way.

A caller that is known by name (`ranker.serving.callers`) counts as one connection, however many it
has. Behind a proxy all others may share a few.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

NOTED_FROM = 0.25
"""The part of the queue from which on it is noted who holds what."""

DIVIDED_FROM = 0.5
"""The part of the queue from which on its room is divided."""


class Waiting(Protocol):
    """What waits, or its place.

    Attributes:
        rows: how many rows it has.
        size: the bytes that it holds.
        holder: the caller that it is counted for; empty: none.
    """

    rows: int
    size: int
    holder: str

    def holder_name(self) -> str:
        """Whom it is counted for: its caller, by name, or else its connection."""


class ConnectionShares:
    """Who holds how much of the queue.

    Args:
        max_rows: the most rows that may wait.
        max_bytes: the most bytes that waiting lists may hold.

    Attributes:
        noted_rows, noted_bytes: when more waits, call `take` for what comes.
        divided_rows, divided_bytes: when more waits, a connection may have what `has_room` says.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.noted_rows, self.noted_bytes = NOTED_FROM * max_rows, NOTED_FROM * max_bytes
        self.divided_rows, self.divided_bytes = DIVIDED_FROM * max_rows, DIVIDED_FROM * max_bytes
        self._lists: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def has_room(self, holder: str, rows: int, size: int) -> bool:
        """Whether so much more of a caller, by name, or of a connection is at most its share."""
        others = len(self._lists) - (holder in self._lists)
        share = 1.0 / (others + 2)
        return (
            self._rows[holder] + rows <= share * self._max_rows
            and self._bytes[holder] + size <= share * self._max_bytes
        )

    def holds(self, holder: str) -> bool:
        """Whether lists of a caller, by name, or of a connection wait that were noted."""
        return holder in self._lists

    def take(self, task: Waiting) -> None:
        """Notes whose a list is that now waits."""
        task.holder = task.holder_name()
        self._hold(1, task)

    def give_back(self, task: Waiting) -> None:
        """A list that was noted waits no more."""
        self._hold(-1, task)
        if not self._lists[task.holder]:
            for held in (self._lists, self._rows, self._bytes):
                del held[task.holder]

    def _hold(self, sign: int, task: Waiting) -> None:
        self._lists[task.holder] += sign
        self._rows[task.holder] += sign * task.rows
        self._bytes[task.holder] += sign * task.size
