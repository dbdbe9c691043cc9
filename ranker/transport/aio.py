"""The transport on gRPC's public asyncio API.

The fallback for a grpcio whose core `ranker.transport.core` does not know:
slower, since every message passes a poller thread, a socket pair, tasks and
coroutines, but nothing in it is private to grpcio. grpc.aio itself loses some
200 bytes with every stream that is cancelled while an answer is on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import grpc.aio

from ranker.errors import RankerError, UnimplementedError
from ranker.transport.address import bind_error
from ranker.transport.api import (
    MAX_UNSENT,
    Metadata,
    Method,
    Methods,
    Observer,
    Options,
    Pump,
)
from ranker.transport.arguments import channel_arguments
from ranker.transport.failure import as_ranker_error, guard, on_the_wire, why_gone

_Context = Any  # grpc.aio.ServicerContext, whose stubs lack half of its methods


class AioTransport:
    """Serves methods on an asyncio loop. See `ranker.transport.api.Transport`."""

    name = "aio"

    def __init__(
        self,
        methods: Methods,
        pump: Pump,
        *,
        max_message_bytes: int,
        observer: Observer | None = None,
        reuse_port: bool = False,
        options: Options = (),
    ) -> None:
        self._pump = pump
        self._loop = asyncio.new_event_loop()
        self._thread = 0
        self._started = asyncio.Event()
        self._left = asyncio.Event()
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        arguments = channel_arguments(max_message_bytes, reuse_port, options)
        router = _Router(self, methods, observer)
        self._server = self._loop.run_until_complete(_create(arguments, router))

    def bind(self, address: str) -> int:
        """Listens on `host:port`; see `Transport.bind`."""
        try:
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise bind_error(address) from error

    def run(self) -> None:
        """Serves on the calling thread until `stop` has done its work, or `leave` is called."""
        self._thread = threading.get_ident()
        self._loop.run_until_complete(self._serve())
        if not self._left.is_set():
            self._loop.close()

    async def _serve(self) -> None:
        await self._server.start()
        self._started.set()
        ends = [
            asyncio.ensure_future(self._server.wait_for_termination()),
            asyncio.ensure_future(self._left.wait()),
        ]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._left.is_set():
            return
        ends[1].cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._timer is not None:
            self._timer.cancel()

    def stop(self, grace: float) -> None:
        """Starts to end `run`; see `Transport.stop`."""
        self.on_loop(lambda: self.spawn(self._stop(grace)))

    async def _stop(self, grace: float) -> None:
        await self._started.wait()
        await self._server.stop(grace)

    def leave(self) -> None:
        """Has `run` return; see `Transport.leave`."""
        self.on_loop(self._left.set)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's thread, followed by the pump."""

        def run() -> None:
            guard("a function on the loop", function)
            self.pump_soon()

        self.on_loop(run)

    def on_loop(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's next turn; callable from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to serve
            self._loop.call_soon_threadsafe(function)

    def is_loop_thread(self) -> bool:
        """Whether the caller runs on the loop's thread."""
        return threading.get_ident() == self._thread

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Starts a task that `run` waits for."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pump_soon(self) -> None:
        """Has the pump called once all callbacks that are ready now have run."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._pump_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay = guard("the pump", self._pump)
        if delay is not None:
            self._timer = self._loop.call_later(delay, self._turn)


async def _create(arguments: list[tuple[str, str | int]], router: _Router) -> grpc.aio.Server:
    """Makes the server while its loop runs, which is how it learns of the loop."""
    server = grpc.aio.server(options=arguments)
    server.add_generic_rpc_handlers((router,))
    return server


class _Router(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds the method of a call and dresses it as gRPC wants it."""

    def __init__(
        self, transport: AioTransport, methods: Methods, observer: Observer | None
    ) -> None:
        self._observer = observer
        self._methods = {
            name: _Servicer(transport, name, method, observer).rpc()
            for name, method in methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of one call, as gRPC asks for it."""
        name = handler_call_details.method
        known = self._methods.get(name)
        if known is not None:
            return known
        return grpc.stream_stream_rpc_method_handler(functools.partial(self._unknown, name))

    async def _unknown(self, name: str, _: object, context: _Context) -> None:
        if self._observer is not None:
            self._observer.rpc_started()
            self._observer.rpc_finished("", grpc.StatusCode.UNIMPLEMENTED.value[0], 0.0)
        await context.abort(*on_the_wire(UnimplementedError(f"no such method: {name}")))


class _Servicer:
    """Serves the calls of one method by its handler's callbacks."""

    def __init__(
        self, transport: AioTransport, name: str, method: Method, observer: Observer | None
    ) -> None:
        self._transport = transport
        self._name = name
        self._method = method
        self._handler = method.handler
        self._observer = observer

    def rpc(self) -> Any:
        """The method as gRPC's own kind of handler, on bytes."""
        if self._method.request_streaming:
            if self._method.response_streaming:
                return grpc.stream_stream_rpc_method_handler(self._stream_stream)
            return grpc.stream_unary_rpc_method_handler(self._stream_unary)
        if self._method.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._unary_stream)
        return grpc.unary_unary_rpc_method_handler(self._unary_unary)

    async def _unary_unary(self, request: bytes, context: _Context) -> bytes:
        call = self._open(context)
        self._deliver(call, request)
        return await call.one_answer()

    async def _unary_stream(self, request: bytes, context: _Context) -> None:
        call = self._open(context)
        self._deliver(call, request)
        await call.all_answers()

    async def _stream_unary(self, _: object, context: _Context) -> bytes:
        call = self._open(context)
        self._transport.spawn(self._read(call, context))
        return await call.one_answer()

    async def _stream_stream(self, _: object, context: _Context) -> None:
        call = self._open(context)
        self._transport.spawn(self._read(call, context))
        await call.all_answers()

    def _open(self, context: _Context) -> _Call:
        call = _Call(self._transport, self._name, context)
        context.add_done_callback(lambda _: self._close(call))
        if self._observer is not None:
            self._observer.rpc_started()
        return call

    def _close(self, call: _Call) -> None:
        call.close()
        guard(f"{self._name}: closed", self._handler.closed, call)
        call.tag = None  # it may well refer to the call, and a cycle waits for the collector
        if self._observer is not None:
            seconds = time.monotonic() - call.arrived
            self._observer.rpc_finished(self._name, call.code.value[0], seconds)

    def _deliver(self, call: _Call, data: bytes) -> bool:
        """Gives the handler a message; returns whether it wants the next one now."""
        self._transport.pump_soon()
        try:
            if not call.heard:
                call.heard = True
                self._handler.opened(call)
            return self._handler.message(call, data)
        except Exception as error:
            call.fail(as_ranker_error(error, call))
            return False

    async def _read(self, call: _Call, context: _Context) -> None:
        """Delivers a stream's messages until there are no more.

        Never cancelled: gRPC loses memory with every read that is. The read
        ends by itself when the RPC does.
        """
        while True:
            try:
                data = await context.read()
            except grpc.aio.UsageError:  # the RPC has ended
                return
            if call.over:
                return
            if data is grpc.aio.EOF:  # type: ignore[attr-defined]
                # A caller that is lost looks like this too: let the news arrive.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                break
            call.hold()
            if self._deliver(call, data):
                call.resume()
            await call.readable()
        if call.over or call.cancelled:
            return
        try:
            self._handler.half_closed(call)
        except Exception as error:
            call.fail(as_ranker_error(error, call))


class _Call:
    """One RPC; see `ranker.transport.api.Call`."""

    def __init__(self, transport: AioTransport, method: str, context: _Context) -> None:
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
        self._transport = transport
        self._context = context
        self._lock = threading.Lock()
        self._outgoing: deque[bytes] = deque()
        self._ended = False
        self._error: RankerError | None = None
        self._held = False
        self._for_writer = asyncio.Event()
        self._for_reader = asyncio.Event()

    def send(self, message: bytes) -> None:
        with self._lock:
            if self._ended or self.over:
                return
            self._outgoing.append(message)
            self.unsent += 1
        self._signal(self._for_writer)

    def finish(self, message: bytes | None = None) -> None:
        with self._lock:
            if self._ended:
                return
            if message is not None:
                self._outgoing.append(message)
                self.unsent += 1
            self._ended = True
        self._signal(self._for_writer)

    def fail(self, error: RankerError) -> None:
        with self._lock:
            if self._ended:
                return
            self._error = error
            self._ended = True
        self._signal(self._for_writer)

    def resume(self) -> None:
        self._held = False
        self._signal(self._for_reader)

    def _signal(self, event: asyncio.Event) -> None:
        if self._transport.is_loop_thread():
            event.set()
        else:
            self._transport.on_loop(event.set)

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
