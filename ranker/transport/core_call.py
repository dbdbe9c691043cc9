"""RPCs on grpcio's core, as batches of operations. See `ranker.transport.core`.

Everything here runs on the loop's thread. gRPC takes one operation of a kind at
a time per RPC, so a stream's messages wait for each other here.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ranker.errors import Code, OverloadedError, RankerError, UnimplementedError
from ranker.incident import incident
from ranker.rpc import MAX_UNSENT, MESSAGE_OVERHEAD, Metadata, Method, Numbers
from ranker.transport.arguments import METADATA_OVERHEAD
from ranker.transport.core_api import (
    BUFFER_HINT,
    ReceiveClose,
    ReceiveMessage,
    SendInitialMetadata,
    SendMessage,
    SendStatus,
    certified_names_of,
)
from ranker.transport.core_loop import Loop
from ranker.transport.trailers import as_ranker_error, logger, on_the_wire, why_gone

# Operations without contents keep no state in a batch, so all batches share these.
_OPEN = SendInitialMetadata(None, 0)
_OK = SendStatus(None, int(Code.OK), b"", 0)

_NEVER = 1e12
"""Seconds since 1970. gRPC gives a call without a deadline one beyond this."""


class Route:
    """A method, taken apart for speed: what its calls look up for every message."""

    __slots__ = (
        "closed",
        "ended",
        "half_closed",
        "message",
        "name",
        "opened",
        "public",
        "refused",
        "request_streaming",
        "vital",
    )

    def __init__(self, name: str, method: Method, ended: Numbers) -> None:
        handler = method.handler
        self.name = name
        self.opened = handler.opened
        self.refused = handler.refused
        self.message = handler.message
        self.half_closed = handler.half_closed
        self.closed = handler.closed
        self.request_streaming = method.request_streaming
        self.vital = method.vital
        self.public = method.public
        self.ended = ended


class StreamCall:
    """One RPC, of any shape; see `ranker.rpc.Call`."""

    cancelled = False
    unsent = 0
    code = Code.OK
    tag: Any = None
    caller: Any = None
    watched = False  # the batch that reports the end has been started
    traceparent: Any = None  # a str: only keys that end in -bin have bytes
    heard = False  # a message has come
    unanswered = False  # its caller waits for answers

    _unread_since = math.inf  # the answer under way was given to `send`
    _peer: str | None = None  # once it is asked for
    _names: tuple[str, ...] | None = None  # in the caller's certificate, once they are asked for
    _final: tuple[Any, ...] | None = None  # the operations that end the RPC
    _outgoing: deque[tuple[bytes, float]] | None = None  # what waits for the one under way
    _opened = False  # initial metadata has been sent
    _sending = False  # a batch with a message is under way, other than the final one
    _reading = True  # a batch that reads a message is under way: the transport starts one
    _held = False  # the handler wants no message for now
    _under_way = 0  # the bytes of the message that is being sent
    _evicted: RankerError | None = None

    def __init__(
        self, loop: Loop, route: Route, core: Any, metadata: Metadata, until: float
    ) -> None:
        """Takes over an RPC from the core.

        Args:
            loop: what the call tells the loop.
            route: the RPC's method.
            core: the RPC as the core knows it.
            metadata: what the caller sent along.
            until: the deadline, in seconds since 1970.
        """
        self.method = route.name
        self.metadata = metadata
        size = len(metadata) * METADATA_OVERHEAD
        for key, value in metadata:
            size += len(key) + len(value)
            if key == "traceparent":
                self.traceparent = value
        self.metadata_bytes = size
        self.arrived = self.moved = time.monotonic()
        self.deadline = until + loop.monotonic_less_wall if until < _NEVER else math.inf
        self._loop = loop
        self._route = route
        self._core = core  # None once the RPC is over
        loop.calls[self] = None
        loop.in_flight[0] += 1.0

    def peer(self) -> str:
        """The connection that it came on; empty once it is over, unless it was asked for before."""
        if self._peer is None:
            core = self._core  # another thread may ask, and it may be over at any time
            if core is None:
                return ""
            self._peer = str(core.peer().decode())
        return self._peer

    def certified_names(self) -> tuple[str, ...]:
        """The names in the caller's certificate."""
        if self._names is None:
            self._names = () if self._core is None else certified_names_of(self._core)
        return self._names

    def send(self, message: bytes) -> None:
        """Sends a message, after those that wait."""
        if self._final is not None or self._core is None:
            return
        loop, size = self._loop, len(message) + MESSAGE_OVERHEAD
        self.unsent += size
        loop.unsent += size
        loop.messages += 1
        if self._sending:
            if self._outgoing is None:
                self._outgoing = deque()
            self._outgoing.append((message, loop.now))
        else:
            self._sending = True
            self._write(message, loop.now, 0)

    def finish(self, message: bytes | None = None) -> None:
        """Ends the RPC with OK, after the messages that wait and this one."""
        if message is None:
            self._end((_OK,), Code.OK)
        else:
            self._end((SendMessage(message, 0), _OK), Code.OK, len(message) + MESSAGE_OVERHEAD)

    def fail(self, error: RankerError) -> None:
        """Ends the RPC with the error's status, after the messages that wait."""
        self._loop.refusals += isinstance(error, OverloadedError)
        code, text, trailers = on_the_wire(error)
        self._end((SendStatus(trailers, int(code), text, 0),), code)

    def stands_still(self) -> bool:
        """See `ranker.transport.room.StandingCall`.

        An idle stream stands still too, and one that is not read on for want of room.
        """
        if self.unsent or self._final is not None:
            return True
        return self._reading and not self.unanswered

    def unread_since(self) -> float:
        """See `ranker.transport.room.StandingCall`."""
        return self._unread_since

    def awaits_message(self) -> bool:
        """See `ranker.transport.room.StandingCall`."""
        return not (self.heard or self._route.request_streaming) and self._final is None

    def evict(self, error: RankerError) -> None:
        """See `ranker.transport.room.StandingCall`; what is unsent is given up."""
        if self._core is None:
            return
        if self._final is None and not self.unsent:
            self.fail(error)
            return
        # A status would leave after what is unsent, and that may never be.
        self._evicted = error
        code, text, _ = on_the_wire(error)
        self.watch()
        self._core.cancel(int(code), text)

    def refuse(self, error: Exception) -> None:
        """Ends the RPC with what its handler has raised."""
        self._loop.heard = True
        self.fail(as_ranker_error(error, self))

    def resume(self) -> None:
        """Reads the next message, after the handler had it held back."""
        self._held = False
        self._read()

    def watch(self) -> None:
        """Has the end of the RPC reported, unless that has been asked for."""
        if not self.watched:
            self.watched = True
            self._start((ReceiveClose(0),), self._over)

    def received(self, event: Any) -> None:
        """Takes the completion of a batch that reads a message."""
        if self._final is not None or self._core is None:
            return
        self._loop.heard = True
        self.heard = True
        self.moved = self._loop.now
        data = event.batch_operations[0].message()
        try:
            if data is not None:
                self._held = True  # first, since the handler may resume at once
                self._reading = not self._route.request_streaming
                if self._route.message(self, data):
                    self.resume()
            elif self._route.request_streaming:
                # It stays as if reading: there is nothing more to read.
                self._route.half_closed(self)
            else:
                self.fail(UnimplementedError(f"{self.method} takes one message, none came"))
        except Exception as error:
            self.refuse(error)

    def _read(self) -> None:
        if self._reading or self._held or self._final is not None or self.unsent >= MAX_UNSENT:
            return
        self._reading = self._core is not None
        if self._reading and self._loop.reads.may_start(self):
            self._start((ReceiveMessage(0),), self.received)

    def read_on(self) -> None:
        """See `ranker.transport.core_reads.ReadingCall`."""
        self._reading = False
        self._read()

    def _write(self, message: bytes, since: float, flags: int) -> None:
        operations: tuple[Any, ...] = (SendMessage(message, flags),)
        if not self._opened:
            self._opened = True
            operations = (_OPEN, *operations)
        self._under_way = len(message) + MESSAGE_OVERHEAD
        self._unread_since = since
        self._start(operations, self._written)

    def _written(self, _: Any) -> None:
        loop = self._loop
        if self._core is not None:
            self.unsent -= self._under_way
            loop.unsent -= self._under_way
        self.moved = loop.now
        if self._outgoing:
            message, since = self._outgoing.popleft()
            # With the hint, gRPC may keep a message until the next one without it.
            self._write(message, since, BUFFER_HINT if self._outgoing else 0)
        else:
            self._sending = False
            if self._final is not None:
                self._send_final(self._final)
        self._read()

    def _end(self, operations: tuple[Any, ...], code: Code, size: int = 0) -> None:
        if self._final is not None or self._core is None:
            return
        self._final = operations
        self.code = code
        loop = self._loop
        loop.answers_on_their_way += 1
        loop.unsent += size
        self.unsent += size
        self.moved = loop.now
        if not self._sending:  # else the last of the messages sends it
            self._send_final(operations)

    def _send_final(self, operations: tuple[Any, ...]) -> None:
        self._unread_since = self._loop.now
        if not self._opened:
            operations = (_OPEN, *operations)
        if self.watched:
            self._start(operations, ignore)
        else:
            self.watched = True
            self._start((*operations, ReceiveClose(0)), self._over)

    def _over(self, event: Any) -> None:
        self._core = self._outgoing = None
        loop, route = self._loop, self._route
        loop.in_flight[0] -= 1.0
        loop.unsent -= self.unsent
        self.unsent = 0
        del loop.calls[self]
        if self._final is not None:
            loop.answers_on_their_way -= 1
        if event.batch_operations[-1].cancelled():
            self.cancelled = True
            self.code = why_gone(self) if self._evicted is None else self._evicted.code
        try:
            route.closed(self)
        except Exception as error:
            incident(logger, f"{self.method}: closed failed", error)
        route.ended[self.code] += 1.0

    def _start(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
        if self._core is None:
            return
        error = self._core.start_server_batch(operations, tag)
        if error:
            raise RuntimeError(f"{self.method}: gRPC refused a batch with call error {error}")


class UnaryCall(StreamCall):
    """An RPC of one request and one answer: the same, along the shortest way."""

    def stands_still(self) -> bool:
        """See `ranker.transport.room.StandingCall`."""
        return not self.heard or self._final is not None

    def unread_since(self) -> float:
        """See `ranker.transport.room.StandingCall`."""
        return self.moved  # since it was answered

    def send(self, message: bytes) -> None:  # noqa: ARG002
        """Refused: the answer goes out together with the status."""
        raise TypeError(f"{self.method} is answered by finish")

    def finish(self, message: bytes | None = None) -> None:
        """Answers, and asks for the RPC's end if that has not been asked for."""
        core = self._core
        if self._final is not None or core is None:
            return
        self._final = ()
        loop = self._loop
        loop.answers_on_their_way += 1
        self.unsent = size = len(message) if message else 0
        loop.unsent += size
        self.moved = loop.now
        if self.watched:
            error = core.start_server_batch((_OPEN, SendMessage(message, 0), _OK), ignore)
        else:
            self.watched = True
            operations = (_OPEN, SendMessage(message, 0), _OK, ReceiveClose(0))
            error = core.start_server_batch(operations, self._over)
        if error:
            raise RuntimeError(f"{self.method}: gRPC refused a batch with call error {error}")

    def received(self, event: Any) -> None:
        """Takes the completion of the batch that reads the message."""
        data = event.batch_operations[0].message()
        if data is None:
            super().received(event)
            return
        loop = self._loop
        loop.heard = self.heard = True
        loop.unwatched.append(self)
        try:
            self._route.message(self, data)
        except Exception as error:
            self.refuse(error)


def ignore(_: Any) -> None:
    """Takes a completion that tells nothing new."""
