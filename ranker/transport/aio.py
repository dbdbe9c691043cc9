"""The transport on gRPC's public asyncio API.

The fallback for a grpcio whose core `ranker.transport.core` does not know:
slower, since every message passes a poller thread, a socket pair, tasks and
coroutines, but nothing in it is private to grpcio. Nor can it hold callers to all limits: an answer
that is not read can't be given up, and its bytes are bounded by the process's guard alone. And
grpc.aio itself loses some 200 bytes with each call that its caller gives up
(https://github.com/grpc/grpc/issues/43360).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from ranker.errors import Code, OverloadedError, RankerError, UnimplementedError
from ranker.incident import guard as guarded
from ranker.rpc import (
    DEFAULT_LIMITS,
    Callers,
    Credentials,
    Guard,
    Limits,
    Method,
    Methods,
    Options,
    RpcCounts,
    Turn,
)
from ranker.transport.aio_call import AioCall, Context, abort
from ranker.transport.aio_loop import Loop
from ranker.transport.arguments import (
    AIO_WINDOW_BYTES,
    MAX_METADATA_BYTES,
    channel_arguments,
)
from ranker.transport.awaited import Awaited
from ranker.transport.bind_error import bind_error
from ranker.transport.connections import limit_buffers, peer_of
from ranker.transport.grpc_log import quieten
from ranker.transport.room import Room, ShortOfMemoryError, too_much_metadata
from ranker.transport.trailers import as_ranker_error, logger

_LOOK_SECONDS, _LEAST_SECONDS = 0.1, 0.01
"""Seconds between two looks at whether there is room: while no call comes, and while calls do."""

_NEWS_SECONDS = 0.1
"""What the news that a caller is lost may take, who has left without a message."""


class AioTransport:
    """Serves methods on an asyncio loop. See `ranker.rpc.Transport`."""

    name = "aio"
    # grpc.aio takes in one RPC per turn of its loop. If each turn scored a batch, no more
    # RPCs than batches would come in, and an overloaded server would find out too late.
    longest_batch = 0.0001
    full_turn = 64
    whole_turns = False  # each call has tasks of its own
    steps = 0  # gRPC runs on a thread of its own

    def __init__(
        self,
        methods: Methods,
        turn: Turn,
        counts: RpcCounts,
        *,
        max_message_bytes: int,
        reuse_port: bool = False,
        options: Options = (),
        limits: Limits = DEFAULT_LIMITS,
        guard: Guard | None = None,
    ) -> None:
        quieten()
        self._loop = Loop(turn, counts.waited)
        self._calls: dict[AioCall, None] = {}
        self._room = Room(limits, guard, counts, self._calls)
        self._left = asyncio.Event()
        # grpc.aio takes in calls so slowly that those of connections which have been closed since
        # would fill the memory.
        arguments = channel_arguments(
            *(max_message_bytes, reuse_port, options, limits),
            window=AIO_WINDOW_BYTES,
            pending=limits.calls,
        )
        awaited = Awaited(guard, max_message_bytes)
        self._gate = _Gate(self._calls, limits.calls, self._room, awaited, guard)
        router = _Router(self._loop, methods, counts, self._gate)
        self._server = self._loop.run(_create(arguments, router))

    @property
    def answers_on_their_way(self) -> int:
        """See `Transport.answers_on_their_way`."""
        return self._loop.answers_on_their_way

    @property
    def callers(self) -> Callers | None:
        """See `Transport.callers`."""
        return self._gate.callers

    @callers.setter
    def callers(self, callers: Callers | None) -> None:
        self._gate.callers = callers

    def bind(self, address: str, credentials: Credentials | None = None) -> int:
        """Listens on an address; see `Transport.bind`."""
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise bind_error(address) from error
        limit_buffers(port)
        return port

    def run(self) -> None:
        """Serves on the calling thread until `leave` is called."""
        self._loop.run(self._serve())

    async def _serve(self) -> None:
        await self._server.start()
        while not self._left.is_set():
            self._gate.look(time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), _LOOK_SECONDS)

    def leave(self) -> None:
        """Has `run` return; see `Transport.leave`."""
        self._loop.on_loop(self._left.set)

    def peers(self) -> list[str]:
        """See `Transport.peers`."""
        return [call.peer() for call in list(self._calls)]

    def call_soon(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's thread, followed by the turn."""

        def run() -> None:
            guarded(logger, "a function on the loop", function)
            self._loop.turn_soon()

        self._loop.on_loop(run)


async def _create(arguments: list[tuple[str, str | int]], router: _Router) -> grpc.aio.Server:
    """Makes the server while its loop runs, which is how it learns of the loop."""
    server = grpc.aio.server(options=arguments)
    server.add_generic_rpc_handlers((router,))
    return server


class _Gate:
    """Says which calls are let in.

    Attributes:
        calls: those in progress.
        awaited: their messages that are not there yet.
        callers: who may call; None: anybody.
    """

    def __init__(
        self,
        calls: dict[AioCall, None],
        max_calls: int,
        room: Room,
        awaited: Awaited,
        guard: Guard | None,
    ) -> None:
        self.calls = calls
        self.awaited = awaited
        self.callers: Callers | None = None
        self._max_calls = max_calls
        self._room = room
        self._look_at = 0.0
        self._guard = guard

    def look(self, now: float) -> None:
        """Sees whether there is room."""
        self._look_at = now + _LEAST_SECONDS
        self._room.look(now, len(self.calls), 0)

    def refusal(self, call: AioCall) -> OverloadedError | None:
        """Why a new call is refused, if it is."""
        if call.arrived >= self._look_at:
            self.look(call.arrived)
        if self._room.refusal is not None or len(self.calls) > self._max_calls:
            return self._room.refusal_of(call)
        if call.streaming or self.awaited.has_room_for(call):
            return None
        return ShortOfMemoryError()

    def keeps_back(self, call: AioCall) -> bool:
        """Whether a stream is not read for now: memory is short, and its caller brings much."""
        guard = self._guard
        return guard is not None and guard.short and not guard.brings_little(call.peer())

    def refusal_of_caller(self, call: AioCall) -> RankerError | None:
        """Why its caller may not, if so."""
        return None if self.callers is None else self.callers.refusal_of(call)

    def check_metadata(self, call: AioCall, context: Context) -> None:
        """Closes a connection whose calls are larger than gRPC lets pass; see `CoreTransport`."""
        if call.metadata_bytes > MAX_METADATA_BYTES:
            call.fail(too_much_metadata())
            peer = peer_of(context.peer())
            if self._guard is not None and peer is not None:
                self._guard.close(peer)


class _Router(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds the method of a call and dresses it as gRPC wants it."""

    def __init__(self, loop: Loop, methods: Methods, counts: RpcCounts, gate: _Gate) -> None:
        self._unknown_ended = counts.ended("")
        self._methods = {
            name: _Servicer(loop, name, method, counts, gate).rpc()
            for name, method in methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of one call, as gRPC asks for it."""
        name = handler_call_details.method
        known = self._methods.get(name)
        if known is not None:
            return known
        return grpc.stream_stream_rpc_method_handler(functools.partial(self._unknown, name))

    async def _unknown(self, name: str, _: object, context: Context) -> None:
        self._unknown_ended[Code.UNIMPLEMENTED] += 1.0
        await abort(context, UnimplementedError(f"no such method: {name}"))


class _Servicer:
    """Serves the calls of one method by its handler's callbacks."""

    def __init__(
        self, loop: Loop, name: str, method: Method, counts: RpcCounts, gate: _Gate
    ) -> None:
        self._loop = loop
        self._gate = gate
        self._name = name
        self._method = method
        self._handler = method.handler
        self._in_flight = counts.in_flight
        self._ended = counts.ended(name)

    def rpc(self) -> Any:
        """The method as gRPC's own kind of handler, on bytes.

        Its requests are always streams to gRPC, which would tell of a call of one message only once
        that is there.
        """
        if self._method.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._answer_many)
        return grpc.stream_unary_rpc_method_handler(self._answer_one)

    async def _answer_one(self, _: object, context: Context) -> bytes:
        call = self._open(context)
        try:
            if self._admit(call):
                if self._method.request_streaming:
                    self._loop.spawn(self._read(call, context))
                else:
                    await self._read_one(call)
            return await call.one_answer()
        except asyncio.CancelledError:
            call.cancelled = True
            raise

    async def _answer_many(self, _: object, context: Context) -> None:
        call = self._open(context)
        if self._admit(call):
            self._loop.spawn(self._read(call, context))
        await call.all_answers()

    def _open(self, context: Context) -> AioCall:
        call = AioCall(self._loop, self._name, context, streaming=self._method.request_streaming)
        self._gate.calls[call] = None
        context.add_done_callback(lambda _: self._close(call))
        self._in_flight[0] += 1.0
        self._gate.check_metadata(call, context)
        return call

    def _close(self, call: AioCall) -> None:
        call.close()
        del self._gate.calls[call]
        self._gate.awaited.on_end(call)
        guarded(logger, f"{self._name}: closed", self._handler.closed, call)
        # grpc.aio's own objects refer to each other, and keep the call until Python collects them.
        call.tag = None
        self._in_flight[0] -= 1.0
        self._ended[call.code] += 1.0

    def _admit(self, call: AioCall) -> bool:
        """Whether its messages are wanted; if not, the handler has ended it."""
        if self._is_wanted(call):
            return True
        self._gate.awaited.on_end(call)
        self._loop.turn_soon()
        return False

    def _is_wanted(self, call: AioCall) -> bool:
        if call.ended:  # its metadata may not be
            return False
        refusal: RankerError | None
        try:
            refusal = None if self._method.vital else self._gate.refusal(call)
            if refusal is None and not self._method.public:
                refusal = self._gate.refusal_of_caller(call)
            if refusal is None:
                return self._handler.opened(call)
            self._handler.refused(call, refusal)
        except Exception as error:
            call.fail(as_ranker_error(error, call))
        return False

    def _deliver(self, call: AioCall, data: bytes) -> bool:
        """Gives the handler a message; returns whether it wants the next one now."""
        self._loop.turn_soon()
        call.moved = time.monotonic()
        call.heard = True
        self._gate.awaited.on_message(call, len(data))
        try:
            return self._handler.message(call, data)
        except Exception as error:
            call.fail(as_ranker_error(error, call))
            return False

    async def _read_one(self, call: AioCall) -> None:
        """Delivers the only message of a call."""
        data = await call.only_message()
        if call.ended:
            return
        if data is grpc.aio.EOF:  # type: ignore[attr-defined]
            await asyncio.sleep(_NEWS_SECONDS)
            call.fail(UnimplementedError(f"{self._name} takes one message, none came"))
        else:
            self._deliver(call, data)

    async def _read(self, call: AioCall, context: Context) -> None:
        """Delivers a call's messages until there are no more to come.

        Never cancelled: gRPC loses memory with every read that is, and with every one
        that begins after the RPC's end. The read ends by itself when the RPC does.
        """
        while not call.over:
            call.reading = True
            try:
                data = await context.read()
            except (grpc.aio.UsageError, grpc.aio.AbortError):  # the RPC has ended
                return
            call.reading = False
            if call.over or call.ended:
                return
            if data is grpc.aio.EOF:  # type: ignore[attr-defined]
                # A caller that is lost looks like this too: let the news arrive.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                break
            call.hold()
            go_on = self._deliver(call, data)
            if not self._method.request_streaming:
                return
            if go_on:
                call.resume()
            await call.readable()
            while not call.over and self._gate.keeps_back(call):
                call.reading = True  # it is not read for what its caller has brought
                await asyncio.sleep(_LOOK_SECONDS)
        if call.over or call.cancelled:
            return
        if not self._method.request_streaming:
            await asyncio.sleep(_NEWS_SECONDS)
            if not (call.over or call.cancelled):
                call.fail(UnimplementedError(f"{self._name} takes one message, none came"))
            return
        try:
            self._handler.half_closed(call)
        except Exception as error:
            call.fail(as_ranker_error(error, call))
