"""HTTP/2 by hand, on a socket: what no gRPC client would send."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import Counter
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4

SERVICE = "/ranker.v1.RankingService"
RANK, STREAM = f"{SERVICE}/Rank", f"{SERVICE}/RankStream"
WATCH = "/grpc.health.v1.Health/Watch"

CHUNK = 16384
"""The largest frame that every receiver takes."""


def frame(kind: int, stream: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    """One frame: RFC 9113, section 4.1."""
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def setting(number: int, value: int) -> bytes:
    """One parameter of a SETTINGS frame."""
    return struct.pack(">HI", number, value)


def integer(number: int, bits: int, first: int = 0) -> bytes:
    """A number in a prefix of some bits of a byte, and more bytes: RFC 7541, section 5.1."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([first | number])
    found, number = [first | most], number - most
    while number >= 128:
        found.append(number % 128 | 128)
        number //= 128
    return bytes([*found, number])


def field(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """A header field, written out; `indexed` has the receiver remember it."""
    kind = b"\x40" if indexed else b"\0"
    return kind + integer(len(name), 7) + name + integer(len(value), 7) + value


def call(path: str, *, indexed: bool = False, **extra: str) -> bytes:
    """The header block that opens a gRPC call."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "raw",
        "te": "trailers", "content-type": "application/grpc", **extra,
    }  # fmt: skip
    return b"".join(
        field(name.encode(), value.encode(), indexed=indexed) for name, value in fields.items()
    )


def message(body: bytes) -> bytes:
    """A gRPC message, as it lies in DATA frames."""
    return b"\0" + struct.pack(">I", len(body)) + body


class Connection:
    """A connection to a server.

    Args:
        address: `host:port`.
        hello: whether to begin as HTTP/2 does.
        acknowledge: whether to acknowledge the server's settings.
        settings: what to tell the server.

    Raises:
        OSError: nobody listens, or the server closes the connection.
    """

    def __init__(
        self, address: str, *, hello: bool = True, acknowledge: bool = True, settings: bytes = b""
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        self._window = 65535
        # Of each stream: what it was allowed beyond the initial window, less what was sent.
        self._windows: Counter[int] = Counter()
        if hello:
            self.socket.sendall(PREFACE + frame(SETTINGS, payload=settings))
        if acknowledge:
            until = time.monotonic() + 30.0
            while not self._windows[0]:
                if time.monotonic() > until or not self._receive(5.0):
                    self.close()
                    raise ConnectionError("the server has not sent its settings")
            self.socket.sendall(frame(SETTINGS, flags=ACK))

    def send(self, data: bytes, seconds: float = 5.0) -> bool:
        """Sends as long as the server takes it, minding no window; whether it took all in time."""
        self.socket.settimeout(seconds)
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def send_message(self, stream: int, body: bytes, seconds: float = 5.0, flags: int = 0) -> bool:
        """Sends a message as far as the windows allow; whether they allowed all in time."""
        return self.send_data(stream, message(body), seconds, flags)

    def send_data(self, stream: int, data: bytes, seconds: float = 5.0, flags: int = 0) -> bool:
        """Sends any number of messages likewise; `flags` are those of the last frame."""
        until = time.monotonic() + seconds
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            while min(self._window, self._windows[0] + self._windows[stream]) < len(part):
                if time.monotonic() > until or not self._receive(0.1):
                    return False
            last = at + CHUNK >= len(data)
            if not self.send(frame(DATA, stream, part, flags if last else 0), seconds):
                return False
            self._window -= len(part)
            self._windows[stream] -= len(part)
        return True

    def is_open(self, seconds: float = 0.001) -> bool:
        """Reads what comes within that time; whether the server has not ended the connection."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self._receive(left):
                return False
        return True

    def _receive(self, seconds: float) -> bool:
        """Reads what is there, or comes; whether the connection is still open."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(2**20)
        except TimeoutError:
            return True
        except OSError:
            return False
        self._unread += data
        while len(self._unread) >= 9:
            end = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                break
            kind, stream = self._unread[3], int.from_bytes(self._unread[5:9], "big")
            self._note(kind, stream, self._unread[9:end])
            self._unread = self._unread[end:]
        return bool(data)

    def _note(self, kind: int, stream: int, payload: bytes) -> None:
        """Keeps what a frame says of windows; that of stream 0 is what all streams begin with."""
        if kind == WINDOW_UPDATE:
            [more] = struct.unpack(">I", payload)
            if stream:
                self._windows[stream] += more
            else:
                self._window += more
        elif kind == SETTINGS:
            for number, value in struct.iter_unpack(">HI", payload):
                if number == INITIAL_WINDOW_SIZE:
                    self._windows[0] = value

    def close(self) -> None:
        """Breaks off."""
        with contextlib.suppress(OSError):
            self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
