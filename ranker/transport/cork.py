"""Has the kernel send the answers of one turn together.

gRPC writes each answer to its socket, and the kernel sends it at once: a caller who has several
calls on a connection gets as many packets, and wakes up as often. So its socket is corked while a
turn answers; see TCP_CORK in tcp(7). Should the turn not end, the kernel holds nothing for more
than 0.2 s.

Linux only: elsewhere no connections are found.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Protocol

from ranker.incident import guard
from ranker.rpc import Peer
from ranker.transport.connections import Connection, connections_of, peer_of

logger = logging.getLogger(__name__)

MOST_CALLS = 256
"""With more of them in progress nothing is held: the first answers would wait for many others."""

_FEW_CALLS = 4
"""Calls for each connection, on an average, from which on it is worth it."""

SMALL_BYTES = 4096
"""Longer answers, on an average, are not held: what a packet costs is little beside their bytes."""

_LOOK_SECONDS = 1.0
"""Seconds between two looks at who calls."""


class Caller(Protocol):
    """A call in progress."""

    def peer(self) -> str:
        """The connection that it came on."""


class Cork:
    """Holds back what is sent on the connections of callers who have several calls in progress.

    Attributes:
        port: what they connect to; 0: nothing is held.
    """

    def __init__(self) -> None:
        self.port = 0
        self._peers: set[Peer] = set()
        self._connections: list[Connection] = []
        self._look_at = 0.0
        self._long = False  # answers are, as of the last look

    def hold(self, now: float, calls: Collection[Caller]) -> bool:
        """Holds back what is sent from now on, if that is worth it.

        Args:
            now: the time.
            calls: those in progress.

        Returns:
            Whether it does.
        """
        if len(calls) > MOST_CALLS:
            return False
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._long = False
            guard(logger, "a look at connections", self._look, calls)
        corked = self._connections
        if self._long or not corked or _FEW_CALLS * len(corked) > len(calls):
            return False
        for connection in corked:
            connection.cork()
        return True

    def release(self, sent: int, answers: int) -> None:
        """Sends what was held back.

        Args:
            sent: the bytes of answers that were written meanwhile.
            answers: to how many calls.
        """
        for connection in self._connections:
            connection.uncork()
        self._long = sent > SMALL_BYTES * max(answers, 1)

    def _look(self, calls: Collection[Caller]) -> None:
        """Sees on which connections these calls are."""
        peers = {peer for call in calls if (peer := peer_of(call.peer())) is not None}
        if _FEW_CALLS * len(peers) > len(calls):
            self._connections, self._peers = [], set()
        elif peers != self._peers or not self._connections:
            self._connections, self._peers = connections_of(self.port, peers), peers
