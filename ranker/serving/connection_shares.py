"""How much of the queue one connection may have, so that one caller can't keep all others out.

Until the queue is a quarter full nobody is asked who they are. From half on its room is divided:
each connection of which lists wait has the same share, and one that waits alone may have half,
beside what it has of the first quarter. What was let in while there was more room stays. The last
sixteenth is kept for connections that have next to nothing yet: it is divided in the same way, and
all that a connection has counts against its share of it. The room for lists that are to be
explained is divided likewise, but for that.

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

ALONE = 0.5
"""The part of the queue that a connection may have if no other one waits."""

LAST = 0.0625
"""The part of the queue at its end that is kept for connections that have next to nothing yet."""


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
        last_rows, last_bytes: when more waits, only the last part is left.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.noted_rows, self.noted_bytes = NOTED_FROM * max_rows, NOTED_FROM * max_bytes
        self.divided_rows, self.divided_bytes = DIVIDED_FROM * max_rows, DIVIDED_FROM * max_bytes
        self.last_rows, self.last_bytes = (1 - LAST) * max_rows, (1 - LAST) * max_bytes
        self._lists: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def has_room(self, holder: str, rows: int, size: int, part: float = 1.0) -> bool:
        """Whether so much more of a caller, by name, or of a connection is at most its share.

        Args:
            holder: the caller, or the connection.
            rows: how many more.
            size: their bytes.
            part: the part of the queue that is shared.
        """
        others = len(self._lists) - (holder in self._lists)
        share = part * (1.0 / (others + 1) if others else ALONE)
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
