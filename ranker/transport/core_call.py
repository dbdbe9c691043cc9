"""RPCs on grpcio's core, as batches of operations. See `ranker.transport.core`.

`send`, `finish`, `fail` and `resume` come from any thread, all else from the
loop's. A lock guards the flags that both touch; it is never held across a call
into gRPC. gRPC takes one operation of a kind at a time per RPC, so a stream's
messages wait for each other here.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from ranker.errors import OverloadedError, RankerError, UnimplementedError
from ranker.incident import incident
from ranker.rpc import MAX_UNSENT, Handler, Metadata, Observer
from ranker.transport.core_api import (
    BUFFER_HINT,
    ReceiveClose,
    ReceiveMessage,
    SendInitialMetadata,
    SendMessage,
    SendStatus,
)
from ranker.transport.status import as_ranker_error, logger, on_the_wire, why_gone

# Operations without contents keep no state in a batch, so all batches share these.
_OPEN = SendInitialMetadata(None, 0)
_OK = SendStatus(None, grpc.StatusCode.OK.value[0], b"", 0)

_NEVER = 1e12
"""Seconds since 1970. gRPC gives a call without a deadline one beyond this."""

_LOCK = threading.Lock()
"""One for all calls: it is never held for more than a few instructions."""


class Turn:
    """What a turn of the loop leaves to do when nothing more is ready.

    Attributes:
        heard: a handler got a message, so the pump is due.
        refusals: requests that were refused for overload.
        unwatched: calls whose message came in this turn. Most are answered
            in it too, by a batch that reports the RPC's end; for those that
            are not, it has to be asked for.
    """

    __slots__ = ("heard", "refusals", "unwatched")

    def __init__(self) -> None:
        self.heard = False
        self.refusals = 0
        self.unwatched: list[UnaryCall] = []


class Route:
    """A method, taken apart for speed: what its calls look up for every message."""

    __slots__ = (
        "closed",
        "half_closed",
        "message",
        "name",
        "observer",
        "opened",
        "request_streaming",
    )

    def __init__(
        self, name: str, handler: Handler, request_streaming: bool, observer: Observer | None
    ) -> None:
        self.name = name
        self.opened = handler.opened
        self.message = handler.message
        self.half_closed = handler.half_closed
        self.closed = handler.closed
        self.request_streaming = request_streaming
        self.observer = observer


class StreamCall:
    """One RPC, of any shape; see `ranker.rpc.Call`."""

    cancelled = False
    unsent = 0
    code = grpc.StatusCode.OK
    tag: object = None

    _final: tuple[Any, ...] | None = None  # the operations that end the RPC
    _outgoing: deque[bytes] | None = None  # messages that wait for the one under way
    _opened = False  # initial metadata has been sent
    _sending = False  # a batch with a message is under way, other than the final one
    _reading = True  # a batch that reads a message is under way: the transport starts one
    _held = False  # the handler wants no message for now
    _watched = False  # the batch that reports the end has been started

    def __init__(
        self, turn: Turn, route: Route, core: Any, metadata: Metadata, until: float
    ) -> None:
        """Takes over an RPC from the core.

        Args:
            turn: what the call leaves to the end of a turn of the loop.
            route: the RPC's method.
            core: the RPC as the core knows it.
            metadata: what the caller sent along.
            until: the deadline, in seconds since 1970.
        """
        self.method = route.name
        self.metadata = metadata
        self.arrived = time.monotonic()
        self.deadline = self.arrived + until - time.time() if until < _NEVER else math.inf
        self._turn = turn
        self._route = route
        self._core = core  # None once the RPC is over: to hold it is to keep the server up

    def send(self, message: bytes) -> None:
        """Sends a message, after those that wait."""
        with _LOCK:
            if self._final is not None or self._core is None:
                return
            self.unsent += 1
            if self._sending:
                if self._outgoing is None:
                    self._outgoing = deque()
                self._outgoing.append(message)
                return
            self._sending = True
        self._write(message, 0)

    def finish(self, message: bytes | None = None) -> None:
        """Ends the RPC with OK, after the messages that wait and this one."""
        if message is None:
            self._end((_OK,), grpc.StatusCode.OK)
        else:
            self._end((SendMessage(message, 0), _OK), grpc.StatusCode.OK)

    def fail(self, error: RankerError) -> None:
        """Ends the RPC with the error's status, after the messages that wait."""
        code, text, trailers = on_the_wire(error)
        self._end((SendStatus(trailers, code.value[0], text, 0),), code)

    def refuse(self, error: Exception) -> None:
        """Ends the RPC with what its handler has raised."""
        self._turn.refusals += isinstance(error, OverloadedError)
        self._turn.heard = True
        self.fail(as_ranker_error(error, self))

    def resume(self) -> None:
        """Reads the next message, after the handler had it held back."""
        self._held = False
        self._read()

    def watch(self) -> None:
        """Has the end of the RPC reported, unless that has been asked for."""
        with _LOCK:
            if self._watched:
                return
            self._watched = True
        self._start((ReceiveClose(0),), self._over)

    def received(self, event: Any) -> None:
        """Takes the completion of a batch that reads a message."""
        if self._final is not None or self._core is None:
            return
        self._turn.heard = True
        data = event.batch_operations[0].message()
        try:
            if data is not None:
                self._held = True  # first, since the handler's threads may resume early
                self._reading = not self._route.request_streaming
                if self._route.message(self, data):
                    self.resume()
            elif self._route.request_streaming:
                self._route.half_closed(self)
            else:
                self.fail(UnimplementedError(f"{self.method} takes one message, none came"))
        except Exception as error:
            self.fail(as_ranker_error(error, self))

    def _read(self) -> None:
        with _LOCK:
            if self._reading or self._held or self._final is not None or self.unsent >= MAX_UNSENT:
                return
            self._reading = True
        self._start((ReceiveMessage(0),), self.received)

    def _write(self, message: bytes, flags: int) -> None:
        operations: tuple[Any, ...] = (SendMessage(message, flags),)
        if not self._opened:
            self._opened = True
            operations = (_OPEN, *operations)
        self._start(operations, self._written)

    def _written(self, _: Any) -> None:
        message = final = None
        with _LOCK:
            self.unsent -= 1
            if self._outgoing:
                message = self._outgoing.popleft()
            else:
                self._sending = False
                final = self._final  # one that comes later is sent by who brings it
        if message is not None:
            # With the hint, gRPC may keep a message until the next one without it.
            self._write(message, BUFFER_HINT if self._outgoing else 0)
        elif final is not None:
            self._send_final(final)
        self._read()

    def _end(self, operations: tuple[Any, ...], code: grpc.StatusCode) -> None:
        with _LOCK:
            if self._final is not None or self._core is None:
                return
            self._final = operations
            self.code = code
            if self._sending:
                return  # the last of the messages sends it
        self._send_final(operations)

    def _send_final(self, operations: tuple[Any, ...]) -> None:
        if not self._opened:
            operations = (_OPEN, *operations)
        with _LOCK:
            watched = self._watched
            self._watched = True
        if watched:
            self._start(operations, ignore)
        else:
            self._start((*operations, ReceiveClose(0)), self._over)

    def _over(self, event: Any) -> None:
        with _LOCK:  # an engine's thread may be in the middle of `send`
            self._core = None
            self._outgoing = None
        if event.batch_operations[-1].cancelled():
            self.cancelled = True
            self.code = why_gone(self)
        route = self._route
        try:
            route.closed(self)
        except Exception as error:
            incident(logger, f"{self.method}: closed failed", error)
        self.tag = None  # it may well refer to the call, and a cycle waits for the collector
        if route.observer is not None:
            route.observer.rpc_finished(route.name, self.code.value[0])

    def _start(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
        core = self._core
        if core is None:
            return
        error = core.start_server_batch(operations, tag)
        if error:
            raise RuntimeError(f"{self.method}: gRPC refused a batch with call error {error}")


class UnaryCall(StreamCall):
    """An RPC of one request and one answer: the same, along the shortest way."""

    def send(self, message: bytes) -> None:  # noqa: ARG002
        """Refused: the answer goes out together with the status."""
        raise TypeError(f"{self.method} is answered by finish")

    def finish(self, message: bytes | None = None) -> None:
        """Answers, and asks for the RPC's end if that has not been asked for."""
        with _LOCK:
            if self._final is not None:
                return
            self._final = ()
            watched = self._watched
            self._watched = True
        if watched:
            self._start((_OPEN, SendMessage(message, 0), _OK), ignore)
        else:
            self._start((_OPEN, SendMessage(message, 0), _OK, ReceiveClose(0)), self._over)

    def received(self, event: Any) -> None:
        """Takes the completion of the batch that reads the message."""
        data = event.batch_operations[0].message()
        if data is None:
            super().received(event)
            return
        turn = self._turn
        turn.heard = True
        turn.unwatched.append(self)
        try:
            self._route.message(self, data)
        except Exception as error:
            self.refuse(error)


def ignore(_: Any) -> None:
    """Takes a completion that tells nothing new."""
