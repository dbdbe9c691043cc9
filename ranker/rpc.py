"""What a transport offers to a handler, and a handler to a transport.

Handlers are written once, as callbacks on one loop, and run on every
transport. A transport knows bytes, deadlines and statuses; it knows no
message type and no model.

A transport calls its handlers, and `Pump`, from one thread, the loop's. The
methods of a `Call`, and `Transport.stop` and `Transport.call_soon`, may be
called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

from ranker.errors import RankerError

Metadata = Sequence[tuple[str, str | bytes]]


def traceparent(metadata: Metadata) -> str | None:
    """The caller's W3C trace context, unparsed; None if it sent none."""
    for key, value in metadata:
        if key == "traceparent" and isinstance(value, str):
            return value
    return None


MAX_UNSENT = 64
"""A stream is not read while so many of its answers are unsent."""


class Call(Protocol):
    """One RPC, as its handler sees it.

    The first `finish` or `fail` ends it. After that, and once the caller has
    gone, the methods do nothing.
    """

    method: str
    """The full method name, `/package.Service/Method`."""
    metadata: Metadata
    """What the caller sent along, keys in lower case."""
    arrived: float
    """When the RPC reached the server, on the `time.monotonic` clock."""
    deadline: float
    """When the caller stops waiting, on the `time.monotonic` clock; `inf` if never."""
    cancelled: bool
    """Set once the caller has gone: nothing sent from now on will arrive."""
    unsent: int
    """Messages given to `send` that the transport has not passed on yet."""
    code: grpc.StatusCode
    """How the RPC ended, as far as the server knows; valid in `Handler.closed`."""
    tag: object
    """The handler's own note about the call; None at first, and again after `Handler.closed`."""

    def send(self, message: bytes) -> None:
        """Sends one response message and leaves the RPC open."""

    def finish(self, message: bytes | None = None) -> None:
        """Ends the RPC with status OK, after one last message if given."""

    def fail(self, error: RankerError) -> None:
        """Ends the RPC with the error's status."""

    def resume(self) -> None:
        """Asks for the next request message, after `Handler.message` returned False."""


class Handler(Protocol):
    """Serves one method. All of its calls go through one handler."""

    def opened(self, call: Call) -> None:  # noqa: ARG002
        """A call has come, and none of its messages yet.

        Raises:
            RankerError: the transport ends the RPC with its status, and does not
                read what it carries: the cheapest way to refuse it.
        """
        return  # what a handler that inherits from this class does

    def message(self, call: Call, data: bytes) -> bool:
        """Takes one request message; a unary call has just one.

        Returns:
            Whether to read the call's next message now. False holds it back
            until `call.resume()`, so that a caller's backlog stays with the caller.

        Raises:
            RankerError: the transport ends the RPC with its status.
        """

    def half_closed(self, call: Call) -> None:  # noqa: ARG002
        """The caller of a stream will send no more. Not called for a unary call.

        A caller that is lost can look like this too, until `closed` says so.
        """
        return

    def closed(self, call: Call) -> None:  # noqa: ARG002
        """The RPC is over, for whatever reason; called once for every call."""
        return


@dataclass(frozen=True)
class Method:
    """A handler and the shape of its method.

    Attributes:
        handler: serves all calls of the method.
        request_streaming: a call may carry any number of request messages.
        response_streaming: a call may be answered by any number of messages.
    """

    handler: Handler
    request_streaming: bool = False
    response_streaming: bool = False


Methods = Mapping[str, Method]
"""What a transport serves: full method names, `/package.Service/Method`, to methods."""

Pump = Callable[[], float | None]
"""Work to do when a loop has read all that was ready.

Called on the loop's thread, after every turn that handled a message or ran a
function given to `call_soon`. Returns the seconds after which to call it again
even if no message comes, or None: not before the next message.
"""


class Observer(Protocol):
    """Is told of every RPC, of unknown methods too, on the loop's thread. For metrics."""

    def rpc_started(self) -> None:
        """An RPC has reached the server."""

    def rpc_finished(self, method: str, code: int) -> None:
        """It has ended with this gRPC status code.

        `method` is empty if the server has no such method: callers must not be
        able to make up names for a metric's labels.
        """


Options = Sequence[tuple[str, str | int]]
"""gRPC channel arguments, for example `("grpc.max_connection_age_ms", 60000)`."""


class Transport(Protocol):
    """Serves methods on one loop."""

    name: str
    """`core` or `aio`."""

    def bind(self, address: str) -> int:
        """Listens on an address: `host:port`, port 0 for any free one.

        Returns:
            The port.

        Raises:
            OSError: the address can't be listened on; says which and why.
        """

    def run(self) -> None:
        """Serves on the calling thread until `stop` has done its work, or `leave` is called."""

    def stop(self, grace: float) -> None:
        """Starts to end `run`; returns at once. A signal handler may call it.

        New RPCs are refused with UNAVAILABLE, those in flight may finish, and
        those still open after `grace` seconds are cancelled. Calling it again
        can shorten the grace, not lengthen it.
        """

    def leave(self) -> None:
        """Has `run` return soon, with all connections as they are; any thread may call it.

        For a process that then ends without more ado, which closes them: a call
        that is on its way meets a closed connection, which is UNAVAILABLE and
        may be retried. `stop` would have gRPC cancel it, and nobody retries that.
        """

    def call_soon(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's thread, soon, followed by the pump."""


class MakeTransport(Protocol):
    """How every transport is constructed."""

    pump_seconds: float
    """How long the pump may keep the loop: what comes in the meantime is not read."""

    def __call__(
        self,
        methods: Methods,
        pump: Pump,
        *,
        max_message_bytes: int,
        observer: Observer | None = None,
        reuse_port: bool = False,
        options: Options = (),
    ) -> Transport:
        """Makes a transport that listens nowhere yet.

        Args:
            methods: what to serve.
            pump: what to do between reading and waiting.
            max_message_bytes: gRPC refuses a larger request message with
                RESOURCE_EXHAUSTED.
            observer: is told of every RPC.
            reuse_port: other processes may listen on the same port.
            options: gRPC's channel arguments.
        """
