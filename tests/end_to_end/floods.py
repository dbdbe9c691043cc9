"""Floods of frames, and what others see of a server meanwhile."""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness.launch import ServerProcess
from ranker.client import RankerClient
from ranker.errors import RankerError
from tests.end_to_end import http2
from tests.end_to_end.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RANK,
    RST_STREAM,
    SETTINGS,
    STREAM,
    Connection,
    call,
    frame,
)

MIB = 2**20
_BATCH = 2000
"""Frames that are sent at a time."""
_CANCEL = struct.pack(">I", 8)
_INDEXED = b"\x83\x86\xc1\xc0\xbf\xbe"
"""The header block of a call whose `_FIRST` was sent before: six bytes."""
_FIRST = b"\x83\x86" + b"".join(
    http2.field(name, value, indexed=True)
    for name, value in (
        (b":path", RANK.encode()),
        (b":authority", b"raw"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


def _calls(
    block: bytes, first: bytes, flags: int, after: bytes = b"", batch: int = _BATCH
) -> Iterator[bytes]:
    """Opens call after call, on rising streams; `after` is sent on each as a reset."""
    opening = frame(HEADERS, 1, first, flags)
    yield opening + (frame(RST_STREAM, 1, after) if after else b"")
    for begin in itertools.count(3, 2 * batch):
        streams = range(begin, begin + 2 * batch, 2)
        yield b"".join(
            frame(HEADERS, each, block, flags) + (frame(RST_STREAM, each, after) if after else b"")
            for each in streams
        )


def _again(data: bytes, first: bytes = b"") -> Iterator[bytes]:
    """The same over and over."""
    yield first
    yield from itertools.repeat(data)


_ENTRY = http2.field(b"b", b"z" * 4000, indexed=True)
"""A header field that fills the receiver's table; one byte then stands for it."""

FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid-reset": lambda: _calls(_INDEXED, _FIRST, END_HEADERS, _CANCEL),
    "calls": lambda: _calls(_INDEXED, _FIRST, END_HEADERS | END_STREAM),
    "header-bombs": lambda: _calls(
        call(RANK) + b"\xbe" * 500, call(RANK) + _ENTRY, END_HEADERS, batch=10
    ),
    "continuation": lambda: _again(
        frame(CONTINUATION, 1, b"\0\x01x\x01y" * 3000) * 8, frame(HEADERS, 1, call(RANK))
    ),
    "ping": lambda: _again(frame(PING, payload=b"12345678") * 8000),
    "settings": lambda: _again(frame(SETTINGS) * 8000),
    "empty-data": lambda: _again(
        frame(DATA, 1) * 8000, frame(HEADERS, 1, call(STREAM), END_HEADERS)
    ),
    "garbage": lambda: _again(os.urandom(100_000)),
    "tls": lambda: _again(bytes.fromhex("16030100c8010000c40303") + bytes(100_000)),
    "http1": lambda: _again(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4000),
}
"""What a flood sends on one connection, without end."""

WITHOUT_HELLO = frozenset({"garbage", "tls", "http1"})
"""Those that are not HTTP/2."""


@contextmanager
def flood(address: str, kind: str, connections: int = 20) -> Iterator[None]:
    """Sends on so many connections at once, from a process of its own."""
    command = [sys.executable, "-m", "tests.end_to_end.floods", address, kind, str(connections)]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def _send(address: str, kind: str) -> None:
    """Sends on one connection, and anew if it is closed. Nothing is read."""
    hello = kind not in WITHOUT_HELLO
    while True:
        with suppress(OSError), Connection(address, hello=hello, acknowledge=hello) as connection:
            for data in FLOODS[kind]():
                if not connection.send(data, 1.0):
                    break
        time.sleep(0.01)


@dataclass
class Seen:
    """What a caller who does nothing wrong sees.

    Attributes:
        latencies: seconds of each answer.
        errors: of the requests that failed.
        base: bytes that the server's workers held before.
        most: bytes that they held at the most.
    """

    latencies: list[float] = field(default_factory=list)
    errors: list[RankerError] = field(default_factory=list)
    base: int = 0
    most: int = 0

    @property
    def growth(self) -> int:
        """Bytes by which the workers grew at the most."""
        return self.most - self.base

    @property
    def worst(self) -> float:
        """The longest wait for an answer, in seconds."""
        return max(self.latencies)

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency, in seconds."""
        return float(np.percentile(self.latencies, 99))


def held(server: ServerProcess) -> int:
    """The bytes that a server's workers hold."""
    workers = [each for each in server.processes() if re.search(r" -m \S*worker ", _line(each))]
    assert workers
    return sum(each.memory_info().rss for each in workers)


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


@contextmanager
def another_caller(server: ServerProcess, rows: np.ndarray) -> Iterator[Seen]:
    """Ranks a list a hundred times a second meanwhile, and watches the memory."""
    seen, over = Seen(), threading.Event()
    with RankerClient(server.address) as client:
        client.rank(rows, timeout=10.0)
        seen.base = seen.most = held(server)

        def ask() -> None:
            while not over.wait(0.01):
                began = time.monotonic()
                try:
                    client.rank(rows, timeout=20.0)
                except RankerError as error:
                    seen.errors.append(error)
                seen.latencies.append(time.monotonic() - began)

        def watch() -> None:
            while not over.wait(0.02):
                seen.most = max(seen.most, held(server))

        threads = [threading.Thread(target=each, daemon=True) for each in (ask, watch)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in threads:
                thread.join(25.0)


if __name__ == "__main__":
    for _ in range(int(sys.argv[3])):
        threading.Thread(target=_send, args=sys.argv[1:3]).start()
    print("sending", flush=True)
    time.sleep(60.0)
    os._exit(0)
