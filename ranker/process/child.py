"""A process that the supervisor has started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple


class Exit(NamedTuple):
    """How a process ended.

    Attributes:
        code: its exit code, or, below zero, the number of the signal that killed it.
        cpu_seconds: its user and system CPU time.
    """

    code: int
    cpu_seconds: float

    def __str__(self) -> str:
        if self.code < 0:
            return signal.Signals(-self.code).name
        return f"exit code {self.code}"


class Child:
    """Starts a Python module as a process, with a connection to it (`ranker.process.link`).

    Args:
        module: which.
        arguments: its arguments; the descriptor of the connection comes first.
        descriptors: what it inherits.

    Attributes:
        pid: its process id.

    Raises:
        OSError: the system has no process or descriptor to spare.
    """

    def __init__(self, module: str, arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        self._link, theirs = socket.socketpair()
        self._link.setblocking(False)
        self._unread = b""
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
                    pass_fds=[theirs.fileno(), *descriptors],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
                )
            except OSError:
                self._link.close()
                raise
        self.pid = self._process.pid

    def messages(self) -> list[dict[str, Any]]:
        """What it has said since the last time, also after its end."""
        try:
            while piece := self._link.recv(65536):
                self._unread += piece
        except (BlockingIOError, ConnectionResetError):
            pass  # nothing more for now, or for ever: `exit` tells
        *lines, self._unread = self._unread.split(b"\n")
        return [json.loads(line) for line in lines]

    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid == 0:
                return None
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._cpu_seconds = usage.ru_utime + usage.ru_stime
        return Exit(self._process.returncode, self._cpu_seconds)

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.exit() is None:
            os.kill(self.pid, number)
