"""The transport on grpcio's core: one thread, one completion queue, no asyncio.

A turn of the loop: take every completion that is ready, handing messages to
their handlers; when nothing more is ready, do the server's own turn; then wait
for the next completion. No task, no thread hop and no lock.
`ranker.transport.core_api` explains the core's own terms.

A unary RPC takes three completions: the call, its message, and one batch that
answers and reports the end. A batch that reports only that a caller has gone is
started for calls that are not answered soon.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ranker.errors import UnimplementedError
from ranker.incident import guard as guarded
from ranker.rpc import (
    DEFAULT_LIMITS,
    Call,
    Callers,
    Credentials,
    Guard,
    Handler,
    Limits,
    Method,
    Methods,
    Options,
    RpcCounts,
    Turn,
)
from ranker.transport.arguments import MAX_METADATA_BYTES, channel_arguments
from ranker.transport.bind_error import bind_error
from ranker.transport.connections import limit_buffers, peer_of
from ranker.transport.core_api import CompletionQueue, ReceiveMessage, Server, core_credentials
from ranker.transport.core_call import Route, StreamCall, UnaryCall, ignore
from ranker.transport.core_loop import Loop
from ranker.transport.core_reads import MOST_READS
from ranker.transport.cork import Cork
from ranker.transport.grpc_log import quieten
from ranker.transport.room import Room, too_much_metadata
from ranker.transport.trailers import logger

_IDLE = 0.1
"""Seconds that the loop sleeps at most: signals and `leave` are seen by then."""

_UNWATCHED = 0.01
"""How old a unary call is, in seconds, when gRPC is asked to report that its caller has gone.

Most calls are answered sooner, by a batch of operations that reports their end too.
"""

_COMPLETIONS_PER_TURN = 256
"""Where a turn ends though more is ready, so that a flood can't keep batches waiting."""

_REFUSALS_PER_TURN = 64
"""And where it ends when the server is overloaded: to refuse calls must not keep it from serving.

What is not read meanwhile waits with gRPC, and at its clients' ends.
"""

_EMPTY_POLLS = 2
"""Polls in a row without a completion after which nothing seems to be ready.

One is not enough: a poll reads one socket, and has nothing to report if that holds but a part of
a message or the leftovers of an answer. Under overload such turns end too early and leave requests
unread whose deadlines, as they count from their reading, the server then takes for far away.
"""

_POLLS_PER_SECOND = 1000
_MORE_POLLS = 16
"""And so many more for the time that the turn took, up to this: meanwhile sockets have filled."""


class CoreTransport:
    """Serves methods on grpcio's core. See `ranker.rpc.Transport`."""

    name = "core"
    longest_batch = 0.01
    full_turn = 64  # a list has four completions, or less
    whole_turns = True

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
        self.callers: Callers | None = None
        self._turn = turn
        self._turn_at = math.inf
        self._loop = Loop(counts.in_flight, guard)
        self._room = Room(limits, guard, counts, self._loop.calls)
        self._max_calls = limits.calls
        self._guard = guard
        self._cork = Cork()
        self._asking = False  # the core may hand over a call
        self._waited = counts.waited
        self._routes = {name.encode(): _route(name, methods[name], counts) for name in methods}
        self._unknown = (StreamCall, Route("", Method(_NoHandler()), counts.ended("")))
        self._soon: deque[Callable[[], None]] = deque()
        self._waking = False
        self._left = False
        self._queue = CompletionQueue()
        arguments = channel_arguments(max_message_bytes, reuse_port, options, limits)
        self._server = Server(arguments, False)
        self._server.register_completion_queue(self._queue)
        self._request_call = functools.partial(
            self._server.request_call, self._queue, self._queue, self._accept
        )
        self._latest: Any = None  # of the calls, as the core knows them

    @property
    def answers_on_their_way(self) -> int:
        """See `Transport.answers_on_their_way`."""
        return self._loop.answers_on_their_way

    @property
    def steps(self) -> int:
        """See `Transport.steps`."""
        return self._loop.steps

    def bind(self, address: str, credentials: Credentials | None = None) -> int:
        """Listens on an address; see `Transport.bind`."""
        port: int = self._server.add_http2_port(address.encode(), core_credentials(credentials))
        if port == 0:
            raise bind_error(address)
        limit_buffers(port)
        self._cork.port = port
        return port

    def run(self) -> None:
        """Serves on the calling thread until `leave` is called."""
        self._server.start()
        self._ask()
        self._serve()

    def leave(self) -> None:
        """Has `run` return; see `Transport.leave`."""

        def leave() -> None:
            self._left = True

        self.call_soon(leave)

    def peers(self) -> list[str]:
        """See `Transport.peers`."""
        return [call.peer() for call in list(self._loop.calls)]

    def call_soon(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's thread, followed by the turn.

        Takes no lock, so that a signal handler may call it.
        """
        self._soon.append(function)
        if not self._waking:
            self._waking = True
            latest = self._latest
            if latest is not None:
                # A poll can't be interrupted, but a batch of no operations, which
                # any call will take, completes at once.
                latest.start_server_batch((), ignore)

    def _serve(self) -> None:
        """Turn after turn."""
        poll = self._queue.poll
        loop = self._loop
        reads = loop.reads
        waited = self._waited
        patience = _EMPTY_POLLS
        while not self._left:
            until = self._poll_until()
            began = time.monotonic()
            loop.steps += 1
            event = poll(until)
            loop.steps += 1
            loop.now = now = time.monotonic()
            waited[0] += now - began
            loop.monotonic_less_wall = now - time.time()
            left = _COMPLETIONS_PER_TURN
            empty = 0
            while True:
                if (act := event.tag) is not None:
                    act(event)
                    empty = 0
                    left -= 1
                    if left == 0 or loop.refusals >= _REFUSALS_PER_TURN:
                        break
                    if until and not loop.calls and self._asking:
                        break  # no RPC is in progress: wait for the next
                else:
                    if reads.left < MOST_READS:
                        reads.on_empty_poll()
                    empty += 1
                    if empty == patience:
                        if not self._asking:
                            self._ask()
                        break
                    if until and not loop.heard and self._asking:
                        break  # there is nothing to do before what comes next
                # A deadline in the past: one of "now" would be rounded up to the
                # next millisecond, and waited for.
                loop.steps += 1
                event = poll(0)
                loop.steps += 1
            event = act = None  # an event holds its call, and a call its message
            seconds = self._end_turn()
            patience = _EMPTY_POLLS + min(int(seconds * _POLLS_PER_SECOND), _MORE_POLLS)

    def _poll_until(self) -> float:
        """When the next poll is to give up, in seconds since 1970."""
        if self._soon or self._loop.reads.waiting:
            return 0
        wait = self._turn_at - time.monotonic()
        longest = _UNWATCHED if self._loop.unwatched else _IDLE
        return time.time() + min(wait, longest) if wait > 0 else 0

    def _end_turn(self) -> float:
        """Does what is due between reading and waiting; returns the seconds that it took."""
        began = time.monotonic()
        loop = self._loop
        loop.refusals = 0
        self._waking = False
        for _ in range(len(self._soon)):
            guarded(logger, "a function on the loop", self._soon.popleft())
            loop.heard = True
        if loop.heard or self._turn_at <= began:
            loop.heard = False
            holds = len(loop.calls) > 1 and self._cork.hold(began, loop.calls)
            unsent, answers = loop.unsent, loop.answers_on_their_way + loop.messages
            delay = guarded(logger, "a turn", self._turn)
            if holds:
                answers = loop.answers_on_their_way + loop.messages - answers
                self._cork.release(loop.unsent - unsent, answers)
            self._turn_at = math.inf if delay is None else time.monotonic() + delay
        unwatched = loop.unwatched
        while unwatched:
            call = unwatched[0]
            if not call.watched:
                if call.arrived > began - _UNWATCHED:
                    break
                call.watch()
            unwatched.popleft()
        self._room.look(began, len(loop.calls), loop.unsent)
        if loop.reads.waiting or loop.reads.without_room:
            loop.reads.on_turn_end(began)
        return time.monotonic() - began

    def _accept(self, event: Any) -> None:
        if not event.success:
            return
        core = self._latest = event.call
        loop = self._loop
        details = event.call_details
        kind, route = self._routes.get(details.method, self._unknown)
        call = kind(loop, route, core, event.invocation_metadata, details.deadline)
        if call.metadata_bytes > MAX_METADATA_BYTES:
            self._asking = False
            self._close_lawless(call)
            return
        self._request_call()
        room = self._room
        if (room.refusal is not None or len(loop.calls) > self._max_calls) and not route.vital:
            refusal = room.refusal_of(call)
            if refusal is not None:
                route.refused(call, refusal)
                return
        if route is self._unknown[1]:
            name = details.method.decode(errors="replace")
            call.fail(UnimplementedError(f"no such method: {name}"))
            return
        callers = self.callers
        try:
            if callers is not None and not route.public:
                unwelcome = callers.refusal_of(call)
                if unwelcome is not None:
                    route.refused(call, unwelcome)
                    return
            wanted = route.opened(call)
        except Exception as error:
            call.refuse(error)
            return
        if not wanted:
            loop.unwatched.append(call)
            loop.heard = True  # its refusal may be held back: the turn says until when
            return
        core.start_server_batch((ReceiveMessage(0),), call.received)
        if kind is StreamCall:
            call.watch()

    def _close_lawless(self, call: StreamCall) -> None:
        """Closes a connection whose calls are larger than gRPC lets pass.

        It lets them pass before a client has acknowledged the server's settings, and such a
        client may have any number more of them on their way. To take one over is slow, so the
        next call is asked for once gRPC has had the time to find the connection closed.
        """
        call.metadata = ()
        call.fail(too_much_metadata())
        peer = peer_of(call.peer())
        if self._guard is not None and peer is not None:
            self._guard.close(peer)

    def _ask(self) -> None:
        """Lets the core hand over a call."""
        self._asking = True
        self._request_call()


def _route(name: str, method: Method, counts: RpcCounts) -> tuple[type[StreamCall], Route]:
    streaming = method.request_streaming or method.response_streaming
    return (StreamCall if streaming else UnaryCall, Route(name, method, counts.ended(name)))


class _NoHandler(Handler):
    """The handler of calls that no handler serves."""

    def message(self, call: Call, data: bytes) -> bool:  # noqa: ARG002
        raise AssertionError(f"{call.method} has no handler")
