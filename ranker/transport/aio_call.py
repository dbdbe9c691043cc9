"""RPCs on grpc.aio: a handler's answers on their way out. See `ranker.transport.aio`.

`send`, `finish`, `fail` and `resume` come from any thread, all else from the loop's.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from typing import Any

import grpc
import grpc.aio

from ranker.errors import RankerError
from ranker.rpc import MAX_UNSENT, Metadata
from ranker.transport.aio_loop import Loop
from ranker.transport.status import on_the_wire, why_gone

Context = Any  # grpc.aio.ServicerContext, whose stubs lack half of its methods


class AioCall:
    """One RPC; see `ranker.rpc.Call`."""

    def __init__(self, loop: Loop, method: str, context: Context) -> None:
        self.method = method
        self.metadata: Metadata = context.invocation_metadata()
        self.arrived = time.monotonic()
        remaining = context.time_remaining()
        self.deadline = math.inf if remaining is None else self.arrived + remaining
        self.cancelled = False
        self.unsent = 0
        self.code = grpc.StatusCode.OK
        self.tag: object = None
        self.over = False
        self.heard = False  # a message of it
        self._loop = loop
        self._context = context
        self._lock = threading.Lock()
        self._outgoing: deque[bytes] = deque()
        self._ended = False
        self._error: RankerError | None = None
        self._held = False
        self._for_writer = asyncio.Event()
        self._for_reader = asyncio.Event()

    def send(self, message: bytes) -> None:
        """Sends a message, after those that wait."""
        with self._lock:
            if self._ended or self.over:
                return
            self._outgoing.append(message)
            self.unsent += 1
        self._signal(self._for_writer)

    def finish(self, message: bytes | None = None) -> None:
        """Ends the RPC with OK, after the messages that wait and this one."""
        with self._lock:
            if self._ended:
                return
            if message is not None:
                self._outgoing.append(message)
                self.unsent += 1
            self._ended = True
        self._signal(self._for_writer)

    def fail(self, error: RankerError) -> None:
        """Ends the RPC with the error's status, after the messages that wait."""
        with self._lock:
            if self._ended:
                return
            self._error = error
            self._ended = True
        self._signal(self._for_writer)

    def resume(self) -> None:
        """Reads the next message, after the handler had it held back."""
        self._held = False
        self._signal(self._for_reader)

    def _signal(self, event: asyncio.Event) -> None:
        if self._loop.is_loop_thread():
            event.set()
        else:
            self._loop.on_loop(event.set)

    # What follows is for the servicer, on the loop's thread.

    def hold(self) -> None:
        """Holds reading back until `resume`."""
        self._held = True

    async def readable(self) -> None:
        """Waits until the next message should be read, or the RPC is over."""
        while not self.over and (self._held or self.unsent >= MAX_UNSENT):
            self._for_reader.clear()
            await self._for_reader.wait()

    async def one_answer(self) -> bytes:
        """Waits for the handler to end the RPC; returns its answer."""
        try:
            while not self._ended:
                self._for_writer.clear()
                await self._for_writer.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self._error is not None:
            await self._context.abort(*on_the_wire(self._error))
        return self._outgoing.popleft() if self._outgoing else b""

    async def all_answers(self) -> None:
        """Writes what the handler sends, until it ends the RPC."""
        try:
            while True:
                ended = self._ended  # read first: finish appends before it sets it
                while self._outgoing:
                    await self._context.write(self._outgoing.popleft())
                    with self._lock:
                        self.unsent -= 1
                    self._for_reader.set()
                if ended:
                    break
                self._for_writer.clear()
                if not (self._outgoing or self._ended):
                    await self._for_writer.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        except grpc.aio.InternalError as error:  # the write failed: the caller has gone
            self.cancelled = True
            raise asyncio.CancelledError from error
        if self._error is not None:
            await self._context.abort(*on_the_wire(self._error))

    def close(self) -> None:
        """Takes note that the RPC is over."""
        self.over = True
        if self.cancelled:
            self.code = why_gone(self)
        elif self._error is not None:
            self.code = self._error.code
        self._outgoing.clear()
        self._for_reader.set()
