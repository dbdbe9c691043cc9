"""What a transport offers to the services, and the services to a transport.

A service handles each method by callbacks that all run on one thread, the
loop's, and so do the methods of a `Call`: nothing here needs a lock. Only
`Transport.call_soon` may be called from any thread. A transport knows bytes,
deadlines and codes; it knows no message type and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ranker.errors import Code, RankerError

Credentials = Any
"""gRPC's own `ServerCredentials`, for TLS; whoever binds a port passes them on."""

Metadata = Sequence[tuple[str, str | bytes]]

MAX_UNSENT = 256 * 2**10
"""A stream is not read while its unsent answers hold so many bytes."""

MESSAGE_OVERHEAD = 256
"""Bytes that an unsent message takes besides its own."""


class Call(Protocol):
    """One RPC, as its handler sees it.

    The first `finish` or `fail` ends it. After that, and once the caller has
    gone, the methods do nothing.
    """

    method: str
    """The full method name, `/package.Service/Method`."""
    metadata: Metadata
    """What the caller sent along, keys in lower case."""
    traceparent: str | None
    """The caller's W3C trace context, unparsed; None if it sent none."""
    arrived: float
    """When the RPC reached the server, on the `time.monotonic` clock."""
    deadline: float
    """When the caller stops waiting, on the `time.monotonic` clock; `inf` if never."""
    cancelled: bool
    """Set once the caller has gone: nothing sent from now on will arrive."""
    unsent: int
    """Bytes given to `send` and `finish` that the transport has not passed on yet."""
    unanswered: bool
    """Set by the handler of a stream while its caller waits for answers, and False at first: such a
    call is not ended to make room for others, whatever else its caller does."""
    code: Code
    """How the RPC ended, as far as the server knows; valid in `Handler.closed`."""
    tag: Any
    """The handler's own note about the call; None at first."""
    caller: Any
    """Who calls, as a transport's `Callers` has found out; None if nobody has asked."""

    def certified_names(self) -> tuple[str, ...]:
        """The names in the caller's certificate, if it has shown one.

        See `ranker.certificate.names_in`.
        """

    def peer(self) -> str:
        """The connection that it came on: the caller's address and port.

        It may be empty once the RPC is over.
        """

    def send(self, message: bytes) -> None:
        """Sends one response message and leaves the RPC open."""

    def finish(self, message: bytes | None = None) -> None:
        """Ends the RPC with status OK, after one last message if given.

        A call of one message is not finished before that has come.
        """

    def fail(self, error: RankerError) -> None:
        """Ends the RPC with the error's status."""

    def resume(self) -> None:
        """Asks for the next request message, after `Handler.message` returned False."""


class Handler(Protocol):
    """Serves one method. All of its calls go through one handler."""

    def opened(self, call: Call) -> bool:  # noqa: ARG002
        """A call has come, and none of its messages yet.

        Returns:
            Whether to read its first message. If not, the handler has ended the
            RPC: the cheapest way to refuse it.

        Raises:
            RankerError: the transport ends the RPC with its status.
        """
        return True  # what a handler that inherits from this class does

    def refused(self, call: Call, error: RankerError) -> None:
        """A call has come for which the transport has no room, or whose caller may not: ends it.

        Called in place of `opened`; none of its messages is read.
        """
        call.fail(error)

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


class Respond(Handler):
    """Serves a unary method with a function from request bytes to response bytes.

    Args:
        function: called on the loop's thread, so it must be short. A
            RankerError that it raises becomes the call's status.
    """

    def __init__(self, function: Callable[[bytes], bytes]) -> None:
        self._function = function

    def message(self, call: Call, data: bytes) -> bool:
        """Answers the one request."""
        call.finish(self._function(data))
        return True


@dataclass(frozen=True)
class Method:
    """A handler and the shape of its method.

    Attributes:
        handler: serves all calls of the method.
        request_streaming: a call may carry any number of request messages.
        response_streaming: a call may be answered by any number of messages.
        vital: it is served even where there is no room for others: small calls, by which
            others see whether the server lives.
        public: anybody may call it, whoever may call the others.
    """

    handler: Handler
    request_streaming: bool = False
    response_streaming: bool = False
    vital: bool = False
    public: bool = False


Methods = Mapping[str, Method]
"""What a transport serves: full method names, `/package.Service/Method`, to methods."""

Turn = Callable[[], float | None]
"""What a loop does when it has read all that was ready.

Called on the loop's thread, after every turn that handled a message or ran a
function given to `call_soon`. Returns the seconds after which to call it again
even if no message comes, or None: not before the next message.
"""


class Numbers(Protocol):
    """Some numbers in a row, to be read and written one by one."""

    def __getitem__(self, index: int, /) -> float: ...
    def __setitem__(self, index: int, value: float, /) -> None: ...


@dataclass(frozen=True)
class Limits:
    """What all callers together may take of a transport.

    Attributes:
        connections: open at a time; a further one is closed as it comes.
        calls: in progress at a time; a further one is refused unread.
        unsent_bytes: of answers that callers do not read. Beyond that, the calls that have
            stood still longest are ended.
        message_seconds: within which the message of a unary call has to be there.
    """

    connections: int = 1000
    calls: int = 2000
    unsent_bytes: int = 64 * 2**20
    message_seconds: float = 30.0


DEFAULT_LIMITS = Limits()


Peer = tuple[str, int]
"""A caller's address and port."""


class Guard(Protocol):
    """What a transport needs of who watches the whole process."""

    short: bool
    """Whether memory is short: to take in hardly anything, and to end calls that stand still."""

    bytes_left: float
    """How many more bytes callers may bring until memory is short; infinity while they hold
    little, or as long as `brings_little` does not know."""

    def brings_little(self, peer: str) -> bool:
        """Whether a connection has brought so little of late that its calls are let in even then.

        Args:
            peer: the connection, as gRPC names it.
        """

    def close(self, peer: Peer) -> None:
        """Closes the connection of a caller who sends headers that may not be."""


class Callers(Protocol):
    """Who may call."""

    def refusal_of(self, call: Call) -> RankerError | None:
        """Finds out who calls, and notes it as `call.caller`; returns why that may not be, if so.

        Called once for each call of a method that is not public, before it is opened.
        """


class RpcCounts(Protocol):
    """Where a transport, and the guard, count; RPCs of unknown methods too."""

    @property
    def in_flight(self) -> Numbers:
        """One number: the RPCs that have come and have not ended."""

    @property
    def waited(self) -> Numbers:
        """One number: the seconds that the loop has waited for something to do."""

    def ended(self, method: str) -> Numbers:
        """The RPCs of a method that have ended: one number for each `Code`.

        The name is empty for methods that the server does not have: callers must
        not be able to make up names for a metric's labels.
        """

    def rpc_evicted(self, reason: str) -> None:
        """An RPC has been ended for want of room: `calls`, `memory`, `unsent` or `message`."""

    def connection_closed(self, reason: str) -> None:
        """A caller's connection has been closed.

        Args:
            reason: `headers`, `memory`, `standstill` or `unanswered`.
        """


Options = Sequence[tuple[str, str | int]]
"""gRPC channel arguments, for example `("grpc.max_connection_age_ms", 60000)`."""


class Transport(Protocol):
    """Serves methods on one loop."""

    name: str
    """What `--transport` calls it."""

    answers_on_their_way: int
    """RPCs that their handlers have ended, and whose last bytes are not sent yet."""

    callers: Callers | None
    """Who may call; None: anybody, and nobody asks who it is. It may be set on the loop's thread,
    for calls that come from then on."""

    steps: int
    """The loop's steps into gRPC and out of it: odd while it is inside, and does not change
    while gRPC keeps it there. Always 0 if the loop never is inside."""

    def bind(self, address: str, credentials: Credentials | None = None) -> int:
        """Listens on an address: `host:port`, port 0 for any free one, or `unix-abstract:name`.

        Args:
            address: where.
            credentials: gRPC's, for TLS; None: plain HTTP/2.

        Returns:
            The port.

        Raises:
            OSError: the address can't be listened on; says which and why.
        """

    def run(self) -> None:
        """Serves on the calling thread until `leave` is called."""

    def leave(self) -> None:
        """Has `run` return soon, with all connections as they are; any thread may call it.

        For a process that then ends at once, which closes them: a call that is
        on its way meets a closed connection, which is UNAVAILABLE and may be
        retried. gRPC's own way to stop would cancel it, and nobody retries that.
        """

    def peers(self) -> list[str]:
        """The connection of each RPC in progress, see `Call.peer`; any thread may ask."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's thread, soon, followed by the turn; from any thread."""


class MakeTransport(Protocol):
    """How every transport is constructed."""

    name: str

    longest_batch: float
    """Seconds that the turn may keep the loop: what comes in the meantime is not read."""

    full_turn: int
    """The most requests that a turn answers."""

    whole_turns: bool
    """Whether a turn reads, scores and answers the same requests; else each has work in several."""

    def __call__(
        self,
        methods: Methods,
        turn: Turn,
        counts: RpcCounts,
        *,
        max_message_bytes: int,
        reuse_port: bool = False,
        options: Options = (),
        limits: Limits = ...,
        guard: Guard | None = None,
    ) -> Transport:
        """Makes a transport that listens nowhere yet.

        Args:
            methods: what to serve.
            turn: what to do between reading and waiting.
            counts: where to count the RPCs.
            max_message_bytes: gRPC refuses a larger request message with
                RESOURCE_EXHAUSTED.
            reuse_port: other processes may listen on the same port.
            options: gRPC's channel arguments.
            limits: what callers may take.
            guard: who watches the process; None: nobody.
        """
