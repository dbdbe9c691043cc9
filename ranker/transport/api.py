"""What a transport offers to a handler, and a handler to a transport.

Handlers are written once, as callbacks on one loop, and run on every
transport. A transport knows bytes, deadlines and statuses; it knows no
message type and no model.

A transport calls its handlers, and `Pump`, from one thread, the loop's. The
methods of a `Call` may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ranker.errors import RankerError

Metadata = Sequence[tuple[str, str | bytes]]


class Call(Protocol):
    """One RPC, as its handler sees it."""

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

    def message(self, call: Call, data: bytes) -> bool:
        """Takes one request message; a unary call has just one.

        Returns:
            Whether to read the call's next message now. False holds it back
            until `call.resume()`, so that a caller's backlog stays with the caller.

        Raises:
            RankerError: the transport ends the RPC with its status.
        """

    def half_closed(self, call: Call) -> None:
        """The caller of a stream will send no more. Not called for a unary call."""

    def closed(self, call: Call) -> None:
        """The RPC is over, for whatever reason; called once for every call."""


class Method(Protocol):
    """A handler and the shape of its method."""

    handler: Handler
    request_streaming: bool
    response_streaming: bool


Methods = Mapping[str, Method]
"""What a transport serves: full method names to methods."""


class Pump(Protocol):
    """Work to do when a loop has read all that was ready."""

    def __call__(self) -> float | None:
        """Does it, on the loop's thread. Called after every turn that handled a message.

        Returns:
            The seconds after which to call it again even if no message comes;
            None: not before the next message.
        """


class Observer(Protocol):
    """Is told of every RPC, of unknown methods too. For metrics."""

    def rpc_started(self) -> None:
        """An RPC has reached the server."""

    def rpc_finished(self, method: str, code: int, seconds: float) -> None:
        """It has ended with this gRPC status code, so long after it came."""
