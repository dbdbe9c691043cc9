"""RPCs on grpc.aio: a handler's answers on their way out. See `ranker.transport.aio`.

Everything here runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from typing import Any

import grpc
import grpc.aio

from ranker.certificate import names_in
from ranker.errors import Code, RankerError
from ranker.rpc import MAX_UNSENT, MESSAGE_OVERHEAD, Metadata
from ranker.transport.aio_loop import Loop, Signal
from ranker.transport.arguments import METADATA_OVERHEAD
from ranker.transport.trailers import on_the_wire, why_gone

Context = Any  # grpc.aio.ServicerContext, whose stubs lack half of its methods

_STATUS_CODES = {status.value[0]: status for status in grpc.StatusCode}


class AioCall:
    """One RPC; see `ranker.rpc.Call`."""

    def __init__(self, loop: Loop, method: str, context: Context, *, streaming: bool) -> None:
        self._loop = loop
        self.streaming = streaming  # any number of messages may come
        self.method = method
        self.metadata: Metadata = context.invocation_metadata()
        self.traceparent: str | None = None
        self.metadata_bytes = len(self.metadata) * METADATA_OVERHEAD
        for key, value in self.metadata:
            self.metadata_bytes += len(key) + len(value)
            if key == "traceparent":
                self.traceparent = str(value)
        self.arrived = self.moved = time.monotonic()
        remaining = context.time_remaining()
        self.deadline = math.inf if remaining is None else self.arrived + remaining
        self.cancelled = False
        self.unsent = self.awaited = 0
        self.code = Code.OK
        self.tag: Any = None
        self.caller: Any = None
        self.over = False
        self.heard = False  # a message of it
        self.unanswered = False
        self.reading = False  # it waits for its caller's next message
        self._context = context
        self._names: tuple[str, ...] | None = None  # in its certificate, once they are asked for
        self._outgoing: deque[bytes] = deque()
        self.ended = False  # by `finish` or `fail`
        self._error: RankerError | None = None
        self._held = False
        self._for_writer, self._for_reader = Signal(), Signal()
        self._is_stuck = False  # its coroutine reads, and can't end it

    def peer(self) -> str:
        """The connection that it came on."""
        return "" if self.over else str(self._context.peer())

    def certified_names(self) -> tuple[str, ...]:
        """The names in the caller's certificate."""
        if self._names is None:
            shown = None if self.over else self._context.auth_context().get("x509_pem_cert")
            self._names = names_in(shown[0]) if shown else ()
        return self._names

    def send(self, message: bytes) -> None:
        """Sends a message, after those that wait."""
        if self.ended or self.over:
            return
        self._put(message)
        self._for_writer.set()

    def finish(self, message: bytes | None = None) -> None:
        """Ends the RPC with OK, after the messages that wait and this one."""
        if self.ended:
            return
        if message is not None:
            self._put(message)
        self._end()

    def fail(self, error: RankerError) -> None:
        """Ends the RPC with the error's status, after the messages that wait."""
        if self.ended:
            return
        error.forget_frames()
        self._error = error
        self._end()
        if self._is_stuck:
            self._loop.spawn(self._abort())

    def resume(self) -> None:
        """Reads the next message, after the handler had it held back."""
        self._held = False
        self._for_reader.set()

    def stands_still(self) -> bool:
        """See `ranker.transport.room.StandingCall`."""
        return self.reading and not (self.ended or self.unsent or self.unanswered)

    def unread_since(self) -> float:
        """See `ranker.transport.room.StandingCall`; nobody asks, since such calls are not ended."""
        return self.moved

    def awaits_message(self) -> bool:
        """See `ranker.transport.room.StandingCall`."""
        return self.reading and not self.streaming and not self.ended

    def evict(self, error: RankerError) -> None:
        """See `ranker.transport.room.StandingCall`."""
        self.fail(error)

    def _put(self, message: bytes) -> None:
        self._outgoing.append(message)
        self.unsent += len(message) + MESSAGE_OVERHEAD

    def _end(self) -> None:
        self.ended = True
        self._loop.answers_on_their_way += not self.over
        self._for_writer.set()

    # What follows is for the servicer.

    def hold(self) -> None:
        """Holds reading back until `resume`."""
        self._held = True

    async def only_message(self) -> Any:
        """Reads the call's one message; EOF: none came. Raises what ends the call's coroutine.

        `fail` may end the call meanwhile: then gRPC has the read raise `AbortError`.
        """
        self.reading = self._is_stuck = True
        try:
            return await self._context.read()
        finally:
            self.reading = self._is_stuck = False

    async def _abort(self) -> None:
        """Ends the RPC with its error while its coroutine reads."""
        if not self._is_stuck:  # its message has come at the same moment: it ends the RPC
            return
        assert self._error is not None
        with contextlib.suppress(grpc.aio.AbortError, grpc.aio.InternalError):
            await abort(self._context, self._error)

    async def readable(self) -> None:
        """Waits until the next message should be read, or the RPC is over."""
        while not self.over and (self._held or self.unsent >= MAX_UNSENT):
            await self._for_reader.wait()

    async def one_answer(self) -> bytes:
        """Waits for the handler to end the RPC; returns its answer."""
        while not self.ended:
            await self._for_writer.wait()
        if self._error is not None:
            # gRPC loses memory with what is sent to a caller that has gone: let that news arrive.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await abort(self._context, self._error)
        return self._outgoing.popleft() if self._outgoing else b""

    async def all_answers(self) -> None:
        """Writes what the handler sends, until it ends the RPC."""
        try:
            while self._outgoing or not self.ended:
                if self._outgoing:
                    message = self._outgoing.popleft()
                    await self._context.write(message)
                    self.unsent -= len(message) + MESSAGE_OVERHEAD
                    self.moved = time.monotonic()
                    self._for_reader.set()
                else:
                    await self._for_writer.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        except grpc.aio.InternalError as error:  # the write failed: the caller has gone
            self.cancelled = True
            raise asyncio.CancelledError from error
        if self._error is not None:
            await abort(self._context, self._error)

    def close(self) -> None:
        """Takes note that the RPC is over."""
        self.over = True
        self._loop.answers_on_their_way -= self.ended
        if self.cancelled:
            self.code = why_gone(self)
        elif self._error is not None:
            self.code = self._error.code
        self._outgoing.clear()
        self._for_reader.set()


async def abort(context: Context, error: RankerError) -> None:
    """Ends an RPC with an error's status. Never returns: grpc.aio raises."""
    code, text, trailers = on_the_wire(error)
    await context.abort(_STATUS_CODES[code], text, trailers)
