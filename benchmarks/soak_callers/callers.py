"""Callers: those that behave, those that leave early, and those that talk nonsense.

A caller is a function that does one thing with the server, once. Each counts how its requests
ended and notes what must not happen: a wrong answer, an unexpected status, no answer.
"""

from __future__ import annotations

import itertools
import multiprocessing
import socket
import struct
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc
import numpy as np

from benchmarks.harness.requests import Request
from benchmarks.soak_callers.desk import ABANDONED, PATIENCE, Desk, Tally
from ranker.client import channel as wire
from ranker.errors import Code
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.http2 import PREFACE, SETTINGS, Connection, frame

GREETINGS = (
    b"",
    PREFACE,
    PREFACE + frame(SETTINGS),
    PREFACE[:10],
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",  # the start of a TLS handshake
)
"""What half-open connections say before they fall silent; and some go on with garbage."""

MOST = 20
"""Connections that are held at a time."""
UNARY, STREAMED = 20, 50
"""Ranking requests that a client makes which is killed, at most."""
TOO_LARGE = bytes(8 * 2**20)
"""More than a server for 64 features takes as one message."""


def steady_unary(desk: Desk) -> None:
    """One list, patiently."""
    request = desk.draw("steady")
    desk.ended(request, desk.rank(request.message))


def steady_stream(desk: Desk) -> None:
    """A stream of some lists, sent in bursts or at ease."""
    _whole_stream(desk, "steady", pause=0.02 if desk.dice.random() < 0.5 else 0.0)


def late_stream(desk: Desk) -> None:
    """A stream of lists that have little time each."""
    _whole_stream(desk, "rest", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", most_ms=20)


def _whole_stream(
    desk: Desk, model: str, *allowed: str, pause: float = 0.0, most_ms: int = 0
) -> None:
    waiting = {str(i): desk.draw(model) for i in range(desk.dice.integers(1, 100))}
    limits = desk.dice.integers(1, most_ms, len(waiting)) if most_ms else np.zeros(len(waiting))
    messages = [
        request.on_stream(name) + pb.RankRequest(deadline_ms=int(limit)).SerializeToString()
        for (name, request), limit in zip(waiting.items(), limits, strict=True)
    ]

    def paced() -> Iterator[bytes]:
        for message in messages:
            time.sleep(pause)
            yield message

    call = desk.stream(paced())
    try:
        for _ in desk.read(call, waiting, *allowed):
            pass
        if next(call, None) is not None:
            desk.tally.fail("a stream gave more answers than it had requests")
    except grpc.RpcError:
        desk.tally.fail(f"a stream: {call.code().name}: {call.details()}")


def cancelling_unary(desk: Desk) -> None:
    """Cancels at any moment."""
    request = desk.draw("rest")
    call = desk.rank(request.message, timeout=None)
    desk.pause(0.004)
    call.cancel()
    desk.ended(request, call, "CANCELLED")


def late_unary(desk: Desk) -> None:
    """Has between 0.1 and 30 ms of time."""
    request = desk.draw("rest")
    call = desk.rank(request.message, 10 ** desk.dice.uniform(-4, -1.5))
    desk.ended(request, call, "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")


def cancelling_stream(desk: Desk) -> None:
    """Reads some of a stream's answers, then cancels it."""
    waiting = {str(i): desk.draw("rest") for i in range(20)}
    call = desk.stream([request.on_stream(name) for name, request in waiting.items()])
    for _ in itertools.islice(desk.read(call, waiting), int(desk.dice.integers(20))):
        pass
    desk.pause(0.004)
    call.cancel()
    desk.tally.add("rest", ABANDONED, len(waiting))


def unread_stream(desk: Desk) -> None:
    """Asks for 200 long answers and reads none for seconds; then all of them, or never any."""
    waiting = {str(i): desk.draw("rest", length=500) for i in range(200)}
    with desk.connect() as channel:
        call = desk.stream([each.on_stream(name) for name, each in waiting.items()], channel)
        time.sleep(desk.dice.uniform(1.0, 4.0))
        if desk.dice.random() < 0.5:
            for _ in desk.read(call, waiting):
                pass
        else:
            call.cancel()
            desk.tally.add("rest", ABANDONED, len(waiting))


def broken_messages(desk: Desk) -> None:
    """Bytes that are no message, and messages that are no list for this model."""
    for message, code in _broken(desk):
        found = desk.rank(message).code().name
        desk.tally.add("rest", found)
        if found != code:
            desk.tally.fail(f"expected {code} for a broken message, got {found}")
    with desk.connect() as channel:
        for method, message, code in (
            (f"/{wire.SERVICE}/Guess", b"", "UNIMPLEMENTED"),
            (wire.RANK[0], TOO_LARGE, "RESOURCE_EXHAUSTED"),
        ):
            call = channel.unary_unary(method).future(message, timeout=PATIENCE)
            if call.code().name != code:
                desk.tally.fail(f"expected {code} of {method}, got {call.code().name}")


def broken_stream(desk: Desk) -> None:
    """Broken messages among good ones: each gets its own status, and the stream lives on."""
    messages, codes = map(list, zip(*_broken(desk), strict=True))
    request = desk.draw("rest")
    messages.append(request.message)  # without an id
    expected = sorted([*codes, "INVALID_ARGUMENT", "OK"])
    messages.insert(int(desk.dice.integers(len(messages))), request.on_stream("good"))
    found = []
    for answer in desk.stream(messages):
        if answer.request_id == "good":
            request.check(answer)
        found.append(Code(answer.status.code).name)
        desk.tally.add("rest", found[-1])
    if sorted(found) != expected:
        desk.tally.fail(f"a stream with broken messages: expected {expected}, got {found}")


def _broken(desk: Desk) -> Iterator[tuple[bytes, str]]:
    """Messages and the status that each must get."""
    request = desk.draw("rest", length=int(desk.dice.integers(2, 300)))
    whole, rows = Request(request.rows, model="rest").on_stream("broken"), len(request.rows)
    # Cut within the candidates: without them it would be a message, and might name no model.
    yield whole[: int(desk.dice.integers(40, len(whole) - 20))], "INVALID_ARGUMENT"
    yield b"\xff" + desk.dice.bytes(int(desk.dice.integers(1000))), "INVALID_ARGUMENT"
    for spoil, code in (
        ({"candidates": pb.Matrix(rows=rows + 1)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(columns=63)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(rows=2**31)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(data=b"x" * 13)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(data_type=7)}, "INVALID_ARGUMENT"),  # type: ignore[arg-type]
        ({"feature_names": ["no such feature"]}, "INVALID_ARGUMENT"),
        ({"candidate_ids": ["one"]}, "INVALID_ARGUMENT"),
        ({"top_k": -1}, "INVALID_ARGUMENT"),
        ({"model": "films"}, "NOT_FOUND"),
        ({"model_version": "99"}, "NOT_FOUND"),
    ):
        # Appended to a message, another one is merged into it.
        yield whole + pb.RankRequest(**spoil).SerializeToString(), code


def headers_alone(desk: Desk) -> None:
    """Opens calls, never sends their messages, and leaves in different ways."""
    left = threading.Event()
    with desk.connect() as channel:
        calls = [
            channel.stream_unary(wire.RANK[0]).future(_nothing(left)),
            channel.stream_stream(wire.RANK_STREAM[0])(_nothing(left)),
        ]
        desk.pause(3.0)
        if desk.dice.random() < 0.5:
            for call in calls:
                call.cancel()
    left.set()


def _nothing(left: threading.Event) -> Iterator[bytes]:
    """The messages of a call that has none, and does not end before its caller leaves."""
    left.wait(PATIENCE)
    yield from ()


class Intruders:
    """Opens bad connections, which stay silent for so many seconds at most; kills clients."""

    def __init__(self, desk: Desk, longest: float) -> None:
        self._desk, self._longest = desk, longest
        self._held: list[tuple[float, socket.socket]] = []

    def connect(self) -> None:
        """Opens a connection that says little or nonsense; closes those whose time is over."""
        now, dice = time.monotonic(), self._desk.dice
        for until, connection in self._held[:]:
            if until <= now or len(self._held) >= MOST:
                self._held.remove((until, connection))
                if dice.random() < 0.5:  # a reset instead of an orderly end
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.close()
        connection = Connection(self._desk.address, hello=False, acknowledge=False).socket
        greeting = GREETINGS[dice.integers(len(GREETINGS))]
        connection.sendall(greeting + (dice.bytes(1000) if dice.random() < 0.3 else b""))
        self._held.append((now + self._longest * dice.random() ** 3, connection))

    def kill(self) -> None:
        """Kills a client with requests in flight."""
        desk, context = self._desk, multiprocessing.get_context("spawn")
        own, sent = (desk.address, desk.folder, int(desk.dice.integers(2**31))), context.Event()
        process = context.Process(target=hang, args=(*own, sent), daemon=True)
        process.start()
        if not sent.wait(PATIENCE):
            desk.tally.fail("a client that was to be killed has sent nothing")
        desk.tally.add("rest", ABANDONED, UNARY + STREAMED)
        desk.pause(0.05)
        process.kill()
        process.join()


def hang(address: str, folder: Path, seed: int, sent: Event) -> None:
    """A client's process: sends, and waits to be killed."""
    desk = Desk(address, folder, Tally(), np.random.default_rng(seed))
    calls = [desk.rank(desk.draw("rest").message, None) for _ in range(UNARY)]
    calls.append(desk.stream([desk.draw("rest").on_stream(str(i)) for i in range(STREAMED)]))
    calls.append(desk.channel.stream_unary(wire.RANK[0]).future(_nothing(threading.Event())))
    sent.set()
    threading.Event().wait()
