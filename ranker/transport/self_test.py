"""Whether grpcio's core does all that the `core` transport has it do.

The core's names are not public, and may mean something else in any release. The releases that
our tests have run on need no proof. Of any other one this asks for each kind of operation, from
one end of a connection to the other: calls that are answered, refused, abandoned and late, and
streams, with what comes along with them.

It is a process of its own, since what has changed may also end in a crash, or never.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from ranker.errors import Code, NotFoundError
from ranker.rpc import Call, Handler, Method
from ranker.rpc_error import from_rpc_error

SECONDS = 20.0
"""That the process may take. It needs less than one on an idle machine."""

COMMAND = [sys.executable, "-m", "ranker.transport.self_test"]

_CALL_SECONDS = 5.0
_LARGE = 2**20  # bytes: a message that comes in parts
_MESSAGES = 20  # of a stream
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def failure() -> str | None:
    """Runs the test in a process of its own.

    Returns:
        What is not as the transport expects it, in a line; None: nothing.
    """
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it did not end within {SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().rpartition("\n")[2]
    return said or f"it ended with exit code {done.returncode}"


class ChangedError(Exception):
    """Something is not as the transport expects it."""


class _Counts:
    """The RPCs, as the transport counts them: `ranker.rpc.RpcCounts`."""

    def __init__(self) -> None:
        self.in_flight = [0.0]
        self.waited = [0.0]
        self._ended = [0.0] * len(Code)

    def ended(self, method: str) -> list[float]:  # noqa: ARG002
        return self._ended

    def rpc_evicted(self, reason: str) -> None: ...

    def connection_closed(self, reason: str) -> None: ...


class _Unary(Handler):
    """Answers with the message, keeps one call for ever, or refuses it."""

    def __init__(self) -> None:
        self.seen: dict[bytes, Call] = {}
        self.ended: dict[bytes, Code] = {}

    def message(self, call: Call, data: bytes) -> bool:
        name = call.tag = data[:8]
        self.seen[name] = call
        if name == b"refuse":
            raise NotFoundError("no such thing")
        if name not in (b"cancel", b"late"):
            call.finish(data)
        return True

    def closed(self, call: Call) -> None:
        self.ended[call.tag] = call.code


class _Echo(Handler):
    """Answers each message of a stream once another thread has had it read the next one."""

    def __init__(self) -> None:
        self.call_soon: Any = None

    def message(self, call: Call, data: bytes) -> bool:
        def resume() -> None:
            call.send(data)
            call.resume()

        threading.Thread(target=self.call_soon, args=(resume,)).start()
        return False

    def half_closed(self, call: Call) -> None:
        call.finish()


def check() -> None:
    """Starts a server on the transport, calls it, and ends it.

    Raises:
        ChangedError: something is not as the transport expects it.
        grpc.RpcError: a call failed that should not.
        Exception: whatever else goes wrong.
    """
    from ranker.transport.core import CoreTransport

    unary, echo = _Unary(), _Echo()
    methods = {"/test/Unary": Method(unary), "/test/Echo": Method(echo, True, True)}
    counts = _Counts()
    transport = CoreTransport(methods, lambda: None, counts, max_message_bytes=2 * _LARGE)
    echo.call_soon = transport.call_soon
    port = transport.bind("127.0.0.1:0")
    loop = threading.Thread(target=transport.run, daemon=True)
    loop.start()
    limits = [("grpc.max_receive_message_length", 2 * _LARGE)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", limits) as channel:
        _check_unary(channel, unary)
        _check_refusals(channel, unary)
        _check_stream(channel)
    _wait(lambda: counts.in_flight[0] == 0.0, "calls do not end")
    _expect(counts.ended("")[Code.OK] == 3, "ended calls are not counted")
    _expect(transport.answers_on_their_way == 0, "answers stay on their way")
    transport.leave()
    loop.join(_CALL_SECONDS)
    _expect(not loop.is_alive(), "the loop does not end")


def _check_unary(channel: grpc.Channel, handler: _Unary) -> None:
    ask = channel.unary_unary("/test/Unary", None, None)
    for message in (b"small", bytes(_LARGE)):
        sent = (("traceparent", _TRACE), ("other-bin", b"\0"))
        answer = ask(message, timeout=_CALL_SECONDS, metadata=sent, wait_for_ready=True)
        _expect(answer == message, "an answer is not the one that was sent")
    call = handler.seen[b"small"]
    left = call.deadline - call.arrived
    _expect(0.0 < left <= _CALL_SECONDS + 0.1, "a deadline is not the caller's")
    _expect(call.traceparent == _TRACE, "metadata is not the caller's")
    _expect(("other-bin", b"\0") in tuple(call.metadata), "binary metadata is not the caller's")


def _check_refusals(channel: grpc.Channel, handler: _Unary) -> None:
    ask = channel.unary_unary("/test/Unary", None, None)
    refused = ask.future(b"refuse", timeout=_CALL_SECONDS)
    _expect(refused.code() is grpc.StatusCode.NOT_FOUND, "a refusal has another code")
    _expect(refused.details() == "no such thing", "a refusal has another text")
    trailers = dict(refused.trailing_metadata())
    _expect("grpc-status-details-bin" in trailers, "a refusal has no details")
    unknown = channel.unary_unary("/test/None", None, None).future(b"", timeout=_CALL_SECONDS)
    _expect(unknown.code() is grpc.StatusCode.UNIMPLEMENTED, "an unknown method is served")
    cancelled = ask.future(b"cancel", timeout=_CALL_SECONDS)
    _wait(lambda: b"cancel" in handler.seen, "a call does not come")
    _expect(handler.seen[b"cancel"].peer().startswith("ipv4:127.0.0.1:"), "a caller has no address")
    cancelled.cancel()  # type: ignore[no-untyped-call]
    for seconds in (0.1, 1.0, _CALL_SECONDS):
        late = ask.future(b"late", timeout=seconds)
        _expect(late.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "a deadline does not pass")
        if b"late" in handler.seen:  # a busy machine may not have sent it in its time
            break
    _wait(lambda: {b"cancel", b"late"} <= handler.ended.keys(), "an abandoned call does not end")
    codes = handler.ended[b"cancel"], handler.ended[b"late"]
    # The client's clock began sooner, so that it may have given up before our own deadline.
    either = ((Code.CANCELLED, late) for late in (Code.DEADLINE_EXCEEDED, Code.CANCELLED))
    _expect(codes in either, "an abandoned call ends with another code")


def _check_stream(channel: grpc.Channel) -> None:
    messages = [b"%d" % number for number in range(_MESSAGES)]

    def sent() -> Iterator[bytes]:
        yield from messages

    answers = channel.stream_stream("/test/Echo", None, None)(sent(), timeout=_CALL_SECONDS)
    _expect(list(answers) == messages, "a stream's messages are not those that were sent")
    _expect(answers.code() is grpc.StatusCode.OK, "a stream has another end")


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ChangedError(otherwise)


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    limit = time.monotonic() + _CALL_SECONDS
    while not condition():
        _expect(time.monotonic() < limit, otherwise)
        time.sleep(0.005)


def main() -> None:
    """Ends the process with exit code 1, and a line on stderr, if something is not as expected."""
    try:
        check()
    except ChangedError as error:
        sys.exit(str(error))
    except grpc.RpcError as error:
        ended = from_rpc_error(error)
        sys.exit(f"a call ended with {ended.code.name}: {ended.message}")


if __name__ == "__main__":
    main()
