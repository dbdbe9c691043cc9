"""A process that floods a server with frames, or with messages that are very long or short.

    python -m tests.end_to_end.flooder ADDRESS KIND CONNECTIONS

It imports little: each test of a flood starts one.
"""

from __future__ import annotations

import itertools
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

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
    WINDOW_UPDATE,
    Connection,
    call,
    frame,
)

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

LONG_MESSAGES = "long-messages"
"""Not frames by hand: lists of 10,000 candidates, as a client sends them, a hundred at a time."""

SMALL_MESSAGES = "small-messages"
"""On a stream, as many empty ones as the windows allow: each is refused, and that is read."""

_SMALL = http2.message(b"") * 100_000

_IN_FLIGHT = 100
_LONG = 1_900_000
"""Bytes of each; the server takes 2 MB by default."""


def _send(address: str, kind: str) -> None:
    """Sends on one connection, and anew if it is closed. Nothing is read."""
    hello = kind not in WITHOUT_HELLO
    while True:
        with suppress(OSError), Connection(address, hello=hello, acknowledge=hello) as connection:
            for data in FLOODS[kind]():
                if not connection.send(data, 1.0):
                    break
        time.sleep(0.01)


def _send_small_messages(address: str) -> None:
    """Sends on one stream, and anew if its connection is closed."""
    most = 2**31 - 1
    settings = http2.setting(http2.INITIAL_WINDOW_SIZE, most)
    while True:
        with suppress(OSError), Connection(address, settings=settings) as connection:
            connection.send(frame(WINDOW_UPDATE, payload=struct.pack(">I", most - 65535)))
            connection.send(frame(HEADERS, 1, call(STREAM), END_HEADERS))
            while connection.send_data(1, _SMALL, 60.0):
                pass
        time.sleep(0.01)


def _send_messages(address: str) -> None:
    """Sends message after message on a connection of its own, each with a deadline."""
    import grpc

    from ranker.v1 import ranking_pb2 as pb

    candidates = pb.Matrix(rows=10_000, columns=12, data=bytes(10_000 * 12 * 4))
    request = pb.RankRequest(candidates=candidates)
    request.request_id = "x" * (_LONG - request.ByteSize())
    message = request.SerializeToString()
    free = threading.Semaphore(_IN_FLIGHT)
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        rank = channel.unary_unary(RANK)
        while free.acquire():
            rank.future(message, timeout=3.0).add_done_callback(lambda _: free.release())


if __name__ == "__main__":
    messages = {LONG_MESSAGES: _send_messages, SMALL_MESSAGES: _send_small_messages}
    for _ in range(int(sys.argv[3])):
        if sys.argv[2] in messages:
            threading.Thread(target=messages[sys.argv[2]], args=sys.argv[1:2]).start()
        else:
            threading.Thread(target=_send, args=sys.argv[1:3]).start()
    print("sending", flush=True)
    time.sleep(60.0)
    os._exit(0)
