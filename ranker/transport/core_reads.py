"""When the next message of a stream is read, on grpcio's core.

gRPC hands over the completions that it has before it looks at any socket, and to read a message
that it holds already completes at once. A caller who sends a hundred thousand empty messages in one
go would have the loop read those one after the other, and nobody else, for seconds. So after some
messages the next ones wait until a poll has found nothing: by then gRPC has looked at a socket.

While memory is short nothing is read of streams whose callers bring much. What such a caller sends
on stays at its own end, but for what gRPC lets it send of an unread message.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from ranker.rpc import Guard

MOST_READS = 256
"""Messages of streams that may be read until a socket is looked at: as many as a batch has of four
streams, and some milliseconds of work at most where each is refused at once."""

_MOST_TURNS = 8
"""Turns after which the next ones are read all the same, where sockets always have something."""

_ASK_SECONDS = 0.1
"""Seconds between two looks at whether there is room to read on."""


class ReadingCall(Protocol):
    """A stream, as far as reading it is concerned."""

    def peer(self) -> str:
        """The connection that it came on."""

    def read_on(self) -> None:
        """Asks `StreamReads` again, if its next message is still wanted."""


class StreamReads:
    """Puts the reading of streams off.

    Args:
        guard: tells whether memory is short, and who brings little.

    Attributes:
        waiting: the streams whose next message waits until a socket has been looked at.
        left: how many messages may be read until then.
        without_room: the streams that are not read on while memory is short.
    """

    def __init__(self, guard: Guard | None) -> None:
        self.waiting: deque[ReadingCall] = deque()
        self._guard = guard
        self.left = MOST_READS
        self._turns = 0  # since there was an empty poll, while messages wait
        self.without_room: list[ReadingCall] = []
        self._ask_at = 0.0

    def may_start(self, call: ReadingCall) -> bool:
        """Whether a stream may be read at once. If not, it is kept, and asks again."""
        guard = self._guard
        if guard is not None and guard.short and not guard.brings_little(call.peer()):
            self.without_room.append(call)
            return False
        if self.left == 0:
            self.waiting.append(call)
            return False
        self.left -= 1
        return True

    def on_empty_poll(self) -> None:
        """Nothing more was ready, so that gRPC has looked at a socket."""
        self.left = MOST_READS
        self._turns = 0

    def on_turn_end(self, now: float) -> None:
        """Has the streams ask again that may be read now; call it between two turns."""
        if self.without_room and now >= self._ask_at:
            self._ask_at = now + _ASK_SECONDS
            kept, self.without_room = self.without_room, []
            self.waiting.extend(kept)
        if not self.waiting:
            return
        self._turns += 1
        if self._turns > _MOST_TURNS:
            self.on_empty_poll()
        for _ in range(min(self.left, len(self.waiting))):
            self.waiting.popleft().read_on()
