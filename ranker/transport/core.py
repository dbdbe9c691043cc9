"""The transport on grpcio's core: one thread, one completion queue, no asyncio.

A turn of the loop: take every completion that is ready, handing messages to
their handlers; when nothing more is ready, do the server's own turn; then wait
for the next completion. No task, no thread hop and no lock.
`ranker.transport.core_api` explains the core's own terms.

A unary RPC takes three completions: the call, its message, and one batch that
answers and reports the end. The batch that reports a caller's going away is
started only for calls that outlive the turn which read them.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ranker.errors import UnimplementedError
from ranker.incident import guard
from ranker.rpc import Call, Handler, Method, Methods, Options, RpcCounts, Turn
from ranker.transport.address import bind_error
from ranker.transport.arguments import channel_arguments
from ranker.transport.core_api import CompletionQueue, ReceiveMessage, Server
from ranker.transport.core_call import Loop, Route, StreamCall, UnaryCall, ignore
from ranker.transport.trailers import logger

_IDLE = 0.1
"""Seconds that the loop sleeps at most: signals and `leave` are seen by then."""

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

_REQUESTED_CALLS = 4
"""Calls that the core may hand over without our asking again."""


class CoreTransport:
    """Serves methods on grpcio's core. See `ranker.rpc.Transport`."""

    name = "core"
    longest_batch = 0.01

    def __init__(
        self,
        methods: Methods,
        turn: Turn,
        counts: RpcCounts,
        *,
        max_message_bytes: int,
        reuse_port: bool = False,
        options: Options = (),
    ) -> None:
        self._turn = turn
        self._turn_at = math.inf
        self._loop = Loop(counts.in_flight)
        self._waited = counts.waited
        self._routes = {name.encode(): _route(name, methods[name], counts) for name in methods}
        self._unknown = (StreamCall, Route("", Method(_NoHandler()), counts.ended("")))
        self._soon: deque[Callable[[], None]] = deque()
        self._waking = False
        self._left = False
        self._queue = CompletionQueue()
        self._server = Server(channel_arguments(max_message_bytes, reuse_port, options), False)
        self._server.register_completion_queue(self._queue)
        self._request_call = functools.partial(
            self._server.request_call, self._queue, self._queue, self._accept
        )
        self._latest: Any = None  # of the calls, as the core knows them

    @property
    def answers_on_their_way(self) -> int:
        """See `Transport.answers_on_their_way`."""
        return self._loop.answers_on_their_way

    def bind(self, address: str) -> int:
        """Listens on `host:port`; see `Transport.bind`."""
        port: int = self._server.add_http2_port(address.encode())
        if port == 0:
            raise bind_error(address)
        return port

    def run(self) -> None:
        """Serves on the calling thread until `leave` is called."""
        self._server.start()
        for _ in range(_REQUESTED_CALLS):
            self._request_call()
        self._serve()

    def leave(self) -> None:
        """Has `run` return; see `Transport.leave`."""

        def leave() -> None:
            self._left = True

        self.call_soon(leave)

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
        waited = self._waited
        patience = _EMPTY_POLLS
        while not self._left:
            began = time.monotonic()
            event = poll(self._poll_until())
            now = time.monotonic()
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
                else:
                    empty += 1
                    if empty == patience:
                        break
                # A deadline in the past: one of "now" would be rounded up to the
                # next millisecond, and waited for.
                event = poll(0)
            event = act = None  # an event holds its call, and a call its message
            seconds = self._end_turn()
            patience = _EMPTY_POLLS + min(int(seconds * _POLLS_PER_SECOND), _MORE_POLLS)

    def _poll_until(self) -> float:
        """When the next poll is to give up, in seconds since 1970."""
        if self._soon:
            return 0
        wait = self._turn_at - time.monotonic()
        return time.time() + min(wait, _IDLE) if wait > 0 else 0

    def _end_turn(self) -> float:
        """Does what is due between reading and waiting; returns the seconds that it took."""
        began = time.monotonic()
        loop = self._loop
        loop.refusals = 0
        self._waking = False
        for _ in range(len(self._soon)):
            guard(logger, "a function on the loop", self._soon.popleft())
            loop.heard = True
        if loop.heard or self._turn_at <= began:
            loop.heard = False
            delay = guard(logger, "a turn", self._turn)
            self._turn_at = math.inf if delay is None else time.monotonic() + delay
        for call in loop.unwatched:
            if not call.watched:
                call.watch()
        loop.unwatched.clear()
        return time.monotonic() - began

    def _accept(self, event: Any) -> None:
        if not event.success:
            return
        core = self._latest = event.call
        self._request_call()
        self._loop.in_flight[0] += 1.0
        details = event.call_details
        kind, route = self._routes.get(details.method, self._unknown)
        call = kind(self._loop, route, core, event.invocation_metadata, details.deadline)
        if route is self._unknown[1]:
            name = details.method.decode(errors="replace")
            call.fail(UnimplementedError(f"no such method: {name}"))
            return
        try:
            wanted = route.opened(call)
        except Exception as error:
            call.refuse(error)
            return
        if not wanted:
            return
        core.start_server_batch((ReceiveMessage(0),), call.received)
        if kind is StreamCall:
            call.watch()


def _route(name: str, method: Method, counts: RpcCounts) -> tuple[type[StreamCall], Route]:
    streaming = method.request_streaming or method.response_streaming
    return (StreamCall if streaming else UnaryCall, Route(name, method, counts.ended(name)))


class _NoHandler(Handler):
    """The handler of calls that no handler serves."""

    def message(self, call: Call, data: bytes) -> bool:  # noqa: ARG002
        raise AssertionError(f"{call.method} has no handler")
