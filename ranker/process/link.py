"""The connection between the supervisor and a process that it has started.

Both say things in messages of JSON, some with open files. The process says how it fares:
`{"ready": {...}}` once it does its work, or `{"failed": "why"}`; what else is said, and to
whom, is in `ranker.process.rollout` and `ranker.process.preparer`. When the supervisor is gone
the connection ends, and the process should end as well.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ranker.memory_file import new_memory_file

MAX_MESSAGE = 1 << 16
"""The most bytes of a message as it is; of a longer one the text comes as an open file."""

MAX_FILES = 4
"""The most open files that come with a message, that one included."""

_IN_FILE = b"in the first file"

_RETRY_SECONDS = 0.1
"""How often a process without a free descriptor tries again to hear a long message."""


END_NOW = signal.SIGUSR1
"""What only the supervisor sends: a worker no longer waits for what it has to finish, the office
ends. A service manager sends SIGTERM to every process of a service; who ends when is decided by
the supervisor."""


class Message(NamedTuple):
    """What was said, and the open files that came with it."""

    facts: Mapping[str, Any]
    files: Sequence[int]


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection that keeps messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, facts: Mapping[str, Any], files: Sequence[int] = ()) -> None:
    """Says something, with copies of open files.

    Raises:
        OSError: the other end is gone, or (BlockingIOError) has not read what was said before.
    """
    text = json.dumps(facts).encode()
    if len(text) <= MAX_MESSAGE:
        socket.send_fds(end, [text], files)
        return
    file = new_memory_file("message")
    try:
        with open(file, "wb", closefd=False) as content:
            content.write(text)
        socket.send_fds(end, [_IN_FILE], [file, *files])
    finally:
        os.close(file)


def receive(end: socket.socket) -> Message | None:
    """The next message; None if the other end is gone.

    Raises:
        BlockingIOError: there is none, and the connection does not wait; or it has come with a
            file, which there is no descriptor for now. It can be received later.
    """
    while True:
        try:
            if end.recv(len(_IN_FILE), socket.MSG_PEEK) == _IN_FILE and not _has_descriptor():
                raise BlockingIOError(errno.EMFILE, os.strerror(errno.EMFILE))
            data, files, _, _ = socket.recv_fds(end, MAX_MESSAGE, MAX_FILES)
            break
        except ConnectionResetError:
            continue  # it went without having read all; that is told once, before its last words
    if data == _IN_FILE:
        with open(files.pop(0), "rb") as content:
            content.seek(0)
            return Message(json.load(content), files)
    return Message(json.loads(data), files) if data else None


def _has_descriptor() -> bool:
    """Whether this process can open one more file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


class Link:
    """The process's end.

    Args:
        fd: the inherited descriptor of its socket.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def ready(self, facts: Mapping[str, Any]) -> None:
        """Says that the process does its work, and what the supervisor should know of it."""
        self.say({"ready": dict(facts)})

    def failed(self, reason: str) -> None:
        """Says why it can't do its work."""
        self.say({"failed": reason})

    def say(self, facts: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        """Says something, with open files; to nobody if the supervisor is gone."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `listen` notices
            send(self._socket, facts, files)

    def hear(self) -> Message | None:
        """Waits for what the supervisor says next; None if it is gone.

        If it needs a descriptor, and callers' connections have them all, it waits for one.
        """
        while True:
            try:
                return receive(self._socket)
            except BlockingIOError:
                time.sleep(_RETRY_SECONDS)

    def listen(
        self,
        on_message: Callable[[Message], None] | None = None,
        end: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Hears messages on a thread, and has this process get a signal with the supervisor's end.

        Args:
            on_message: is called with each, on that thread. If it raises, the process ends, too: it
                would hear nothing from then on.
            end: the signal.
        """

        def run() -> None:
            try:
                while (message := self.hear()) is not None:
                    if on_message is not None:
                        on_message(message)
            finally:
                os.kill(os.getpid(), end)

        threading.Thread(target=run, name="link", daemon=True).start()
