"""The connection between the supervisor and a process that it has started.

The process says in single lines of JSON how it fares: `{"ready": {...}}` once it does its
work, or `{"failed": "why"}`. The supervisor says nothing. When it is gone the
connection ends, and the process should end as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Any


class Link:
    """The process's end.

    Args:
        fd: the inherited descriptor of its socket.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def ready(self, facts: Mapping[str, Any]) -> None:
        """Says that the process does its work, and what the supervisor should know of it."""
        self._say({"ready": dict(facts)})

    def failed(self, reason: str) -> None:
        """Says why it can't do its work."""
        self._say({"failed": reason})

    def end_with_supervisor(self) -> None:
        """Has this process get a SIGTERM once the supervisor is gone."""
        threading.Thread(target=self._wait, name="link", daemon=True).start()

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # the supervisor is gone, which `end_with_supervisor` notices

    def _wait(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # it went without having read all of it
            self._socket.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)
