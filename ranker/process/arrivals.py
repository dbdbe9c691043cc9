"""What each connection has brought of late, and which of them have brought little."""

from __future__ import annotations

import math

from ranker.rpc import Peer
from ranker.transport.connections import Connection

LATE_SECONDS = 0.5
"""What a connection has brought counts for less from then on: in so much time, for 1/e of it."""


class Arrivals:
    """Compares what connections have brought, from one look to the next.

    Attributes:
        modest: those that have brought least, and all together little. None of them before the
            second look.
        looked: when that was.
        compared: whether there has been a second look.
    """

    def __init__(self) -> None:
        self.modest: frozenset[Peer] = frozenset()
        self.compared = False
        self._received: dict[Peer, int] = {}
        self._of_late: dict[Peer, float] = {}
        self.looked = -math.inf

    def since(self, connection: Connection) -> int | None:
        """The bytes that a connection has brought since the last look, if it was there by then."""
        before = self._received.get(connection.peer)
        if before is None or before > connection.received:  # another one, on the same port
            return None
        return connection.received - before

    def look(self, found: list[Connection], now: float, little: float) -> None:
        """Takes note of what has come.

        Args:
            found: the connections.
            now: the time.
            little: the bytes that those who bring little may bring in a second, all together.
        """
        first = not self._received
        faded = math.exp((self.looked - now) / LATE_SECONDS)
        self._of_late = {
            each.peer: faded * self._of_late.get(each.peer, 0.0)
            + (each.received if (more := self.since(each)) is None else more)
            for each in found
        }
        self._received = {each.peer: each.received for each in found}
        self.looked = now
        if first:  # what they have brought so far says nothing
            self._of_late.clear()
            return
        modest, left = set(), little * LATE_SECONDS
        for peer in sorted(self._of_late, key=self._of_late.__getitem__):
            left -= self._of_late[peer]
            if left < 0.0:
                break
            modest.add(peer)
        self.modest = frozenset(modest)
        self.compared = True

    def forget(self) -> None:
        """The next look is the first one again."""
        self._received.clear()
        self._of_late.clear()
        self.modest = frozenset()
        self.compared = False
