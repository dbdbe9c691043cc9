"""The messages that have been asked for and are not there yet, on `aio`.

gRPC reads there while the server is busy, as many messages at a time as there are calls. What they
will take is not in the memory that the process holds, so it is counted beforehand. On `core` a
message is read when its call is.
"""

from __future__ import annotations

import math
from typing import Protocol

from ranker.rpc import Guard

_TIMES = 2
"""A message is held twice: by gRPC, and as Python has it."""


class AwaitedCall(Protocol):
    """A call, as far as its message is concerned."""

    awaited: int
    """The bytes that are counted for it."""

    def peer(self) -> str:
        """The connection that it came on."""


class Awaited:
    """Counts the bytes that callers who bring much are expected to bring.

    A connection is expected to bring as long a message as its last one, and one of which none has
    come as long a message as may be. Nothing is counted while callers hold little.

    Args:
        guard: tells how much more may come, and who brings little.
        max_message_bytes: how long a message may be.
    """

    def __init__(self, guard: Guard | None, max_message_bytes: int) -> None:
        self._guard = guard
        self._max_message_bytes = max_message_bytes
        self._bytes = 0
        self._lengths: dict[str, int] = {}  # of a connection's last message

    def has_room_for(self, call: AwaitedCall) -> bool:
        """Whether a call's message may come; it is counted, if so.

        There is room for one at least.
        """
        guard = self._guard
        if guard is None or guard.bytes_left == math.inf:
            self._lengths.clear()
            return True
        peer = call.peer()
        if guard.brings_little(peer):
            return True
        size = _TIMES * self._lengths.get(peer, self._max_message_bytes)
        if self._bytes and self._bytes + size > guard.bytes_left:
            return False
        call.awaited = size
        self._bytes += size
        return True

    def on_message(self, call: AwaitedCall, length: int) -> None:
        """A message of so many bytes has come."""
        if call.awaited:
            self._lengths[call.peer()] = length
            self.on_close(call)

    def on_close(self, call: AwaitedCall) -> None:
        """No message is expected of a call any more."""
        self._bytes -= call.awaited
        call.awaited = 0
