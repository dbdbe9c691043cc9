# ruff: noqa: ARG002  a toy need not use all that it is given
"""A server of toys, a behaviour each: `toy_server.py TRANSPORT [--own-readers] [--few-calls]`.

Prints its port. What happens to a call is kept in a journal, under the `case`
that the caller sends in its metadata, and can be read by `/toy/Journal`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections import defaultdict

from ranker.transport import environment

if "--own-readers" not in sys.argv:
    environment.prepare()

import psutil

from ranker.errors import InvalidRequestError, NotFoundError, OverloadedError
from ranker.rpc import DEFAULT_LIMITS, Handler, Limits, Method, Respond
from ranker.transport.registry import select
from tests.transport.heap import allocated_bytes

MAX_MESSAGE_BYTES = 2**20
FEW_CALLS = 30
"""That may be in progress, if it is told so."""

journal: dict[str, list] = defaultdict(list)
batch: list = []
counts = {"pumps": 0, "again": 0}
waiting: list = []


def note(call, *event) -> None:
    case = dict(call.metadata).get("case", "")
    if case:
        journal[case].append(event)


class Toy(Handler):
    """Journals everything."""

    def message(self, call, data):
        note(call, "message", data.decode(errors="replace")[:50])
        return self.play(call, data)

    def half_closed(self, call):
        note(call, "half_closed")
        self.end(call)

    def end(self, call):
        call.finish()

    def closed(self, call):
        note(call, "closed", call.code.name, call.cancelled)


class Counts:
    """The RPCs: in flight, and ended by method and code."""

    def __init__(self):
        self.in_flight = [0.0]
        self.waited = [0.0]
        self.by_method = defaultdict(lambda: [0.0] * 17)

    def ended(self, method):
        return self.by_method[method]

    def told(self):
        ended = {
            f"{method} {code}": int(number)
            for method, numbers in self.by_method.items()
            for code, number in enumerate(numbers)
            if number
        }
        return {"in flight": int(self.in_flight[0]), **ended}


class Journal(Handler):
    def message(self, call, data):
        state = {
            "events": journal[data.decode()],
            "rpcs": counts_of_rpcs.told(),
            "answers_on_their_way": transport.answers_on_their_way,
            "rss": psutil.Process().memory_info().rss,
            **counts,
        }
        call.finish(json.dumps(state).encode())
        return True


class Echo(Toy):
    def play(self, call, data):
        call.finish(data)
        return True


class Hang(Toy):
    def play(self, call, data):
        return True

    def end(self, call): ...


class Hold(Hang):
    """Does not want the message, and does not say why for now."""

    def opened(self, call):
        note(call, "opened")
        return False


class Busy(Toy):
    """Keeps the loop's thread from everything else for so many seconds."""

    def play(self, call, data):
        time.sleep(float(data))
        call.finish()
        return True


class Facts(Toy):
    """What the call knows about itself."""

    def play(self, call, data):
        left = call.deadline - time.monotonic()
        facts = {
            "method": call.method,
            "left": left if left < 1e9 else None,
            "age": time.monotonic() - call.arrived,
            "metadata": [(k, v) for k, v in call.metadata if isinstance(v, str)],
            "tag": call.tag,
            "loop": threading.get_ident() == loop_thread,
        }
        call.finish(json.dumps(facts).encode())
        return True


class Fail(Toy):
    def play(self, call, data):
        kind = data.decode()
        if kind == "invalid":
            raise InvalidRequestError("candidates.data", "expected 4 bytes, got 3")
        if kind == "overloaded":
            raise OverloadedError("queue is full", retry_after=0.25)
        if kind == "long":
            raise NotFoundError("no model " + "x" * 100_000)
        if kind == "exit":
            sys.exit("a toy asked for it")
        raise ValueError("a secret")


class FailLater(Toy):
    """Fails at the request of another thread."""

    def play(self, call, data):
        on_loop(lambda: call.fail(OverloadedError("later", retry_after=1)))
        return True


class EchoLater(Toy):
    """Answers after the seconds that the message says."""

    def play(self, call, data):
        def answer():
            call.finish(data)
            call.finish(b"not this one")
            call.fail(NotFoundError("nor this"))

        on_loop(answer, float(data))
        return True


class Soon(Toy):
    """Answers on the loop, but at the request of another thread."""

    def play(self, call, data):
        def answer():
            call.finish(b"loop" if threading.get_ident() == loop_thread else b"elsewhere")

        on_loop(answer)
        return True


class Batched(Toy):
    """Is answered by the pump, with the number of calls in the turn."""

    def play(self, call, data):
        batch.append(call)
        return True


class Again(Toy):
    """Is answered by the third pump, which nothing but its own wish brings about."""

    def play(self, call, data):
        waiting.append(call)
        counts["again"] = 0
        return True


class BreakPump(Toy):
    def play(self, call, data):
        batch.append(None)
        call.finish(data)
        return True


class BreakClosed(Toy):
    def play(self, call, data):
        call.finish(data)
        return True

    def closed(self, call):
        super().closed(call)
        raise ValueError("closed failed")


class Chat(Toy):
    """Echoes a stream; ends with the caller."""

    def play(self, call, data):
        call.send(data)
        return True


class Reverse(Toy):
    """Answers a stream's messages in reverse, once it has all."""

    def play(self, call, data):
        call.tag = [*(call.tag or []), data]
        return True

    def end(self, call):
        for data in reversed(call.tag[1:]):
            call.send(data)
        call.finish(call.tag[0])


class Amplify(Toy):
    """Sends 64 KiB for every message."""

    def play(self, call, data):
        call.send(b"x" * 65536)
        return True


class Large(Toy):
    """Answers with so many megabytes."""

    def play(self, call, data):
        call.finish(bytes(int(data) * 2**20))
        return True


class Gate(Toy):
    """Lets one message in at a time, and asks for the next a little later."""

    def play(self, call, data):
        if data == b"early":
            call.resume()
        else:

            def go_on():
                note(call, "go on")
                call.send(data)
                call.resume()

            on_loop(go_on, 0.05)
        return False


class Sum(Toy):
    """Many messages, one answer."""

    def play(self, call, data):
        call.tag = (call.tag or 0) + int(data)
        return True

    def end(self, call):
        call.finish(str(call.tag).encode())


class Ticks(Toy):
    """Sends so many messages, with so many seconds between them."""

    def play(self, call, data):
        count, _, pause = data.decode().partition(" ")

        def tick(i=0):
            if i < int(count):
                call.send(str(i).encode())
                on_loop(lambda: tick(i + 1), float(pause))
            else:
                call.finish()

        on_loop(tick, float(pause))
        return True


class Spoilt(Toy):
    """Sends three messages, then fails, then goes on as if nothing had happened."""

    def play(self, call, data):
        for i in range(3):
            call.send(str(i).encode())
        call.fail(NotFoundError("spoilt"))
        call.send(b"too late")
        call.finish(b"too late")
        return True


class Picky(Toy):
    """A stream that ends with an exception at the message `bad`."""

    def play(self, call, data):
        if data == b"bad":
            raise InvalidRequestError("data", "bad")
        call.send(data)
        return True

    def end(self, call):
        raise ValueError("a secret")


def pump():
    counts["pumps"] += 1
    calls = [call for call in batch if call is not None]
    broken = len(calls) < len(batch)
    batch.clear()
    for call in calls:
        call.finish(str(len(calls)).encode())
    if broken:
        raise ValueError("the pump failed")
    if waiting:
        counts["again"] += 1
        if counts["again"] < 3:
            return 0.01
        waiting.pop().finish(b"third")
    return None


def on_loop(function, seconds=0.0):
    """Has another thread ask the loop to call a function, after so many seconds."""
    timer = threading.Timer(seconds, lambda: transport.call_soon(function))
    timer.daemon = True
    timer.start()


METHODS = {
    "/toy/Journal": Method(Journal()),
    "/toy/Allocated": Method(Respond(lambda _: str(allocated_bytes()).encode())),
    **{f"/toy/{toy.__name__}": Method(toy()) for toy in (
        Echo, Busy, Facts, Fail, FailLater, EchoLater, Soon, Batched, Again, BreakPump,
        BreakClosed, Hang, Hold,
    )},
    **{f"/toy/{toy.__name__}": Method(toy(), True, True) for toy in (
        Chat, Reverse, Amplify, Gate, Picky
    )},
    "/toy/HangStream": Method(Hang(), True, True),
    "/toy/HoldStream": Method(Hold(), True, True),
    "/toy/FailLaterStream": Method(FailLater(), True, True),
    "/toy/Sum": Method(Sum(), True, False),
    "/toy/Ticks": Method(Ticks(), False, True),
    "/toy/Spoilt": Method(Spoilt(), False, True),
    "/toy/Large": Method(Large(), False, True),
}  # fmt: skip


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.setswitchinterval(1e-6)  # threads meet where they seldom would
    loop_thread = threading.get_ident()
    counts_of_rpcs = Counts()
    transport = select(sys.argv[1]).make(
        METHODS,
        pump,
        counts_of_rpcs,
        max_message_bytes=MAX_MESSAGE_BYTES,
        # Impatient, so that the tests need not wait. But a client whose machine is busy may take
        # seconds to answer a ping.
        options=[("grpc.keepalive_time_ms", 1000), ("grpc.http2.ping_timeout_ms", 5000)],
        limits=Limits(calls=FEW_CALLS) if "--few-calls" in sys.argv else DEFAULT_LIMITS,
    )
    signal.signal(signal.SIGTERM, lambda *_: transport.leave())
    print(transport.bind("127.0.0.1:0"), flush=True)
    code = 1
    try:
        transport.run()
        code = 0
    finally:
        os._exit(code)  # as a worker ends, without gRPC's own clearing up
