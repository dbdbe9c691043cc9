"""Just enough HTTP/2 to open a call by hand, and then to misbehave."""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _WINDOW_UPDATE = 0, 1, 3, 4, 8
_CANCEL = 8
_END_HEADERS = 4


class RawCall:
    """A call with one message, or none, on a connection of its own.

    Reads nothing, and so answers no ping either.
    """

    def __init__(self, address: str, method: str, case: str, *, message: bool = True) -> None:
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)))
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "raw",
            "te": "trailers",
            "content-type": "application/grpc",
            "case": case,
        }
        block = b"".join(_literal(name) + _literal(value, b"") for name, value in headers.items())
        self._socket.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0)
            + _frame(_HEADERS, 1, block, _END_HEADERS)
            + (_frame(_DATA, 1, b"\0" + struct.pack(">I", 1) + b"x") if message else b"")
        )

    def send_harmless_frame(self) -> None:
        """Sends something that the server reads but need not answer."""
        self._socket.sendall(_frame(_WINDOW_UPDATE, 0, struct.pack(">I", 1)))

    def cancel(self) -> None:
        """Ends the call."""
        self._socket.sendall(_frame(_RST_STREAM, 1, struct.pack(">I", _CANCEL)))

    def reset(self) -> None:
        """Ends the connection at once, by a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Ends the connection in good order."""
        self._socket.close()


def _literal(text: str, kind: bytes = b"\0") -> bytes:
    """A header's name or value, neither indexed nor compressed."""
    return kind + bytes([len(text)]) + text.encode()


def _frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload
