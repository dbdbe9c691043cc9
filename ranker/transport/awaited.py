"""The messages of unary calls that have been asked for and are not there yet, on `aio`.

gRPC reads there while the server is busy, as many messages at a time as there are calls. What they
will take is not in the memory that the process holds, so it is counted beforehand. On `core` a
message is read when its call is. Of streams nobody knows which brings something next: they are
not read on once memory is short, and until then bounded by the process's guard alone.
"""

from __future__ import annotations

import math
from typing import Protocol

from ranker.rpc import Guard

_TIMES = 2
"""A message is held twice: by gRPC, and as Python has it."""

_LATE_SECONDS = 1.0
"""The longest message of late is that of the last one or two times so many seconds."""


class AwaitedCall(Protocol):
    """A call, as far as its message is concerned."""

    awaited: int
    """The bytes that are counted for it."""
    moved: float
    """When it last came on, on the `time.monotonic` clock."""

    def peer(self) -> str:
        """The connection that it came on."""


class Awaited:
    """Counts the bytes that callers who bring much are expected to bring.

    Each of their calls is expected to bring as long a message as the longest that came of late, of
    whomever; if none came, the longest that is allowed. Nothing is counted while callers hold
    little.

    Args:
        guard: tells how much more may come, and who brings little.
        max_message_bytes: how long a message may be.
    """

    def __init__(self, guard: Guard | None, max_message_bytes: int) -> None:
        self._guard = guard
        self._max_message_bytes = max_message_bytes
        self._bytes = 0
        self._left = math.inf  # as the guard said last
        self._come = 0  # bytes since then
        self._longest = self._longest_before = 0
        self._late_until = 0.0

    def has_room_for(self, call: AwaitedCall) -> bool:
        """Whether a call's message may come; it is counted, if so.

        There is room for one at least.
        """
        guard = self._guard
        if guard is None or guard.bytes_left == math.inf:
            return True
        if guard.bytes_left != self._left:
            self._left, self._come = guard.bytes_left, 0
        if guard.brings_little(call.peer()):
            return True
        longest = max(self._longest, self._longest_before) or self._max_message_bytes
        size = _TIMES * longest
        if self._bytes and self._bytes + self._come + size > self._left:
            return False
        call.awaited = size
        self._bytes += size
        return True

    def on_message(self, call: AwaitedCall, length: int) -> None:
        """A message of so many bytes has come."""
        if call.moved >= self._late_until:
            self._late_until = call.moved + _LATE_SECONDS
            self._longest_before, self._longest = self._longest, 0
        self._longest = max(self._longest, length)
        self._come += _TIMES * length
        self.on_end(call)

    def on_end(self, call: AwaitedCall) -> None:
        """No message of a call is awaited any more."""
        self._bytes -= call.awaited
        call.awaited = 0
