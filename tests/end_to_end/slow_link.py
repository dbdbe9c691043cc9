"""A slow connection to a server: a TCP proxy that passes on so many bytes a second, or none."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_PIECE = 16 * 1024


class SlowLink:
    """Passes connections on to a local port; what comes back comes slowly.

    Args:
        to: the port.
        bytes_per_second: of what comes back.

    Attributes:
        flows: what comes back is passed on while this is set, as it is at first.
        port: where to connect.
        passed: the bytes that have come back so far.
    """

    def __init__(self, to: int, bytes_per_second: int) -> None:
        self.passed = 0
        self.flows = threading.Event()
        self.flows.set()
        self._to = to
        self._rate = bytes_per_second
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> SlowLink:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket()
            # What waits in the kernel's buffers has left the server, and is safe.
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
            try:
                far.connect(("127.0.0.1", self._to))
            except ConnectionRefusedError:
                near.close()
                continue
            for source, sink, slow in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass, args=(source, sink, slow), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        try:
            while data := source.recv(_PIECE):
                if slow:
                    self.flows.wait()
                    time.sleep(len(data) / self._rate)
                    self.passed += len(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # which also wakes who reads from it
            end.close()
