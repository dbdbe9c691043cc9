"""The transport on grpcio's core: one thread, one completion queue, no asyncio.

A turn of the loop: take every completion that is ready, handing messages to
their handlers; when nothing more is ready, call the pump; then wait for the
next completion. No task, no thread hop and no lock that is ever held across a
call into gRPC. `ranker.transport.core_api` explains the core's own terms.

A unary RPC takes three completions: the call, its message, and one batch that
answers and reports the end. The batch that reports a caller's going away is
started only for calls that outlive the turn which read them.
"""

from __future__ import annotations

import functools
import math
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from ranker.errors import UnimplementedError
from ranker.incident import guard
from ranker.rpc import Call, Methods, Observer, Options, Pump
from ranker.transport.address import bind_error
from ranker.transport.arguments import channel_arguments
from ranker.transport.core_api import CompletionQueue, ReceiveMessage, Server
from ranker.transport.core_call import Route, StreamCall, Turn, UnaryCall, ignore
from ranker.transport.status import logger

_IDLE = 0.1
"""Seconds that the loop sleeps at most: signals and `stop` are seen by then."""

_COMPLETIONS_PER_TURN = 256
"""Where a turn ends though more is ready, so that a flood can't keep the pump waiting."""

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
"""And so many more for the time that the pump took, up to this: meanwhile sockets have filled."""

_REQUESTED_CALLS = 4
"""Calls that the core may hand over without our asking again."""


class CoreTransport:
    """Serves methods on grpcio's core. See `ranker.rpc.Transport`."""

    name = "core"
    pump_seconds = 0.01

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
        self._turn = Turn()
        self._routes = {
            name.encode(): (
                StreamCall if method.request_streaming or method.response_streaming else UnaryCall,
                Route(name, method.handler, method.request_streaming, observer),
            )
            for name, method in methods.items()
        }
        self._unknown = (StreamCall, Route("", _Nobody(), False, observer))
        self._pump = pump
        self._observer = observer
        self._soon: deque[Callable[[], None]] = deque()
        self._waking = False
        self._pump_at = math.inf
        self._cancel_at = math.inf
        self._stopping = False
        self._stopped = False
        self._queue = CompletionQueue()
        self._server = Server(channel_arguments(max_message_bytes, reuse_port, options), False)
        self._server.register_completion_queue(self._queue)
        self._request_call = functools.partial(
            self._server.request_call, self._queue, self._queue, self._accept
        )
        self._latest: Any = None  # of the calls, as the core knows them

    def bind(self, address: str) -> int:
        """Listens on `host:port`; see `Transport.bind`."""
        port: int = self._server.add_http2_port(address.encode())
        if port == 0:
            raise bind_error(address)
        return port

    def run(self) -> None:
        """Serves on the calling thread until `stop` has done its work."""
        self._server.start()
        for _ in range(_REQUESTED_CALLS):
            self._request_call()
        try:
            self._loop()
        except BaseException as error:
            # The queue can only be freed once every call has come to its end and
            # nothing holds it any more, such as the locals of the frames that failed.
            traceback.clear_frames(error.__traceback__)
            self._stop_at(0.0)
            self._loop()
            raise

    def stop(self, grace: float) -> None:
        """Starts to end `run`; see `Transport.stop`."""
        self.call_soon(lambda: self._stop_at(time.monotonic() + grace))

    def leave(self) -> None:
        """Has `run` return; see `Transport.leave`."""

        def leave() -> None:
            self._stopped = True

        self.call_soon(leave)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's thread, followed by the pump.

        Takes no lock, so that a signal handler may interrupt one of ours.
        """
        self._soon.append(function)
        if not self._waking:
            self._waking = True
            latest = self._latest
            if latest is not None:
                # A poll can't be interrupted, but a batch of no operations, which
                # any call will take, completes at once.
                latest.start_server_batch((), ignore)

    def _loop(self) -> None:
        poll = self._queue.poll
        turn = self._turn
        patience = _EMPTY_POLLS
        while not self._stopped:
            event = poll(self._poll_until())
            left = _COMPLETIONS_PER_TURN
            empty = 0
            while True:
                if (act := event.tag) is not None:
                    act(event)
                    empty = 0
                    left -= 1
                    if left == 0 or turn.refusals >= _REFUSALS_PER_TURN:
                        break
                else:
                    empty += 1
                    if empty == patience:
                        break
                # A deadline in the past: one of "now" would be rounded up to the
                # next millisecond, and waited for.
                event = poll(0)
            event = act = None  # to hold a call is to keep the server up
            began = time.monotonic()
            self._end_turn()
            seconds = time.monotonic() - began
            patience = _EMPTY_POLLS + min(int(seconds * _POLLS_PER_SECOND), _MORE_POLLS)

    def _poll_until(self) -> float:
        """When the next poll is to give up, in seconds since 1970."""
        if self._soon:
            return 0
        wait = min(self._pump_at, self._cancel_at) - time.monotonic()
        return time.time() + min(wait, _IDLE) if wait > 0 else 0

    def _end_turn(self) -> None:
        turn = self._turn
        turn.refusals = 0
        self._waking = False
        for _ in range(len(self._soon)):
            guard(logger, "a function on the loop", self._soon.popleft())
            turn.heard = True
        if turn.heard or self._pump_at <= time.monotonic():
            turn.heard = False
            delay = guard(logger, "the pump", self._pump)
            self._pump_at = math.inf if delay is None else time.monotonic() + delay
        for call in turn.unwatched:
            call.watch()
        turn.unwatched.clear()
        if self._cancel_at <= time.monotonic():
            self._cancel_at = math.inf
            self._server.cancel_all_calls()

    def _stop_at(self, cancel_at: float) -> None:
        self._cancel_at = min(self._cancel_at, cancel_at)
        if not self._stopping:
            self._stopping = True
            self._latest = None  # the server lives on while a call does
            self._server.shutdown(self._queue, self._shut_down)

    def _shut_down(self, _: Any) -> None:
        self._stopped = True
        self._server.destroy()

    def _accept(self, event: Any) -> None:
        if not event.success:  # the server is stopping
            return
        core = event.call
        if not self._stopping:
            self._request_call()
            self._latest = core
        if self._observer is not None:
            self._observer.rpc_started()
        details = event.call_details
        kind, route = self._routes.get(details.method, self._unknown)
        call = kind(self._turn, route, core, event.invocation_metadata, details.deadline)
        if route is self._unknown[1]:
            name = details.method.decode(errors="replace")
            call.fail(UnimplementedError(f"no such method: {name}"))
            return
        try:
            route.opened(call)
        except Exception as error:
            call.refuse(error)
            return
        core.start_server_batch((ReceiveMessage(0),), call.received)
        if kind is StreamCall:
            call.watch()


class _Nobody:
    """The handler of calls that no handler serves."""

    def opened(self, call: Call) -> None:
        raise NotImplementedError

    def message(self, call: Call, data: bytes) -> bool:
        raise NotImplementedError

    def half_closed(self, call: Call) -> None:
        raise NotImplementedError

    def closed(self, call: Call) -> None:
        pass
