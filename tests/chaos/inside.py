"""Faults, each tried in a namespace of its own: for `test_faults`, which starts this there."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos import limits, link


def _listener() -> socket.socket:
    """Answers one byte with the same byte, on each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(1):
            connection.sendall(data)

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def _answers(caller: socket.socket, seconds: float) -> bool:
    caller.settimeout(seconds)
    try:
        caller.sendall(b"x")
        return caller.recv(1) == b"x"
    except TimeoutError:
        return False


def loss() -> None:
    """Packets are lost, and what they carried arrives all the same."""
    with _listener() as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            with link.Drop(port, 0.3) as rule:
                assert all(_answers(caller, 20.0) for _ in range(10))
                assert rule.dropped() > 0
            lost = time.monotonic()
            assert all(_answers(caller, 10.0) for _ in range(100))
            assert time.monotonic() - lost < 10.0


def partition() -> None:
    """A port does not answer, on no old and no new connection, and then it does."""
    with _listener() as listener, _listener() as other:
        port = listener.getsockname()[1]
        with (
            socket.create_connection(("127.0.0.1", port)) as caller,
            socket.create_connection(other.getsockname()) as elsewhere,
        ):
            with link.Drop(port) as rule:
                assert not _answers(caller, 0.3)
                with pytest.raises(TimeoutError):
                    socket.create_connection(("127.0.0.1", port), timeout=0.3)
                assert _answers(elsewhere, 20.0)
                assert rule.dropped() >= 2
            caller.settimeout(20.0)
            assert caller.recv(1) == b"x"  # it was sent again
            assert _answers(caller, 5.0)


def full_disk() -> None:
    """Nothing can be written to the folder, and afterwards something can."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with limits.small_disk(folder, 1):
            with limits.full(folder), pytest.raises(OSError, match="No space left"):
                (folder / "file").write_bytes(b"x")
            (folder / "file").write_bytes(b"x" * 2**19)
        assert not os.listdir(folder)


if __name__ == "__main__":
    {each.__name__: each for each in (loss, partition, full_disk)}[sys.argv[1]]()
