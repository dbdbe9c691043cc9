"""Connections that are none of gRPC's, and clients that are killed."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.soak import victim
from benchmarks.soak.tally import ABANDONED, Tally

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
GREETINGS = (
    b"",
    _PREFACE,
    _PREFACE + _SETTINGS,
    _PREFACE[:10],
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",  # the start of a TLS handshake
)
"""What half-open connections say before they fall silent; and some go on with garbage."""

MOST = 20
"""Connections that are held at a time."""


class Intruders:
    """Opens bad connections and closes them after a while.

    Args:
        address: the server's.
        folder: of the queries.
        tally: where to count the requests of killed clients.
        dice: random numbers.
        longest: seconds that a connection stays silent, at most.
    """

    def __init__(
        self, address: str, folder: Path, tally: Tally, dice: np.random.Generator, longest: float
    ) -> None:
        self._address = address
        self._folder = folder
        self._tally = tally
        self._dice = dice
        self._longest = longest
        self._held: list[tuple[float, socket.socket]] = []

    def connect(self) -> None:
        """Opens a connection that says little or nonsense; closes those whose time is over."""
        now = time.monotonic()
        for until, connection in self._held[:]:
            if until <= now or len(self._held) >= MOST:
                self._held.remove((until, connection))
                self._close(connection)
        host, port = self._address.split(":")
        connection = socket.create_connection((host, int(port)))
        greeting = GREETINGS[self._dice.integers(len(GREETINGS))]
        if self._dice.random() < 0.3:
            greeting += self._dice.bytes(1000)
        connection.sendall(greeting)
        self._held.append((now + self._longest * self._dice.random() ** 3, connection))

    def kill(self) -> None:
        """Kills a client with requests in flight."""
        command = [sys.executable, "-m", "benchmarks.soak.victim", self._address]
        seed = str(self._dice.integers(2**31))
        process = subprocess.Popen(
            [*command, str(self._folder), seed], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        if process.stdout.readline() != "sent\n":
            self._tally.fail("a client that was to be killed ended by itself")
        self._tally.add("rest", ABANDONED, victim.REQUESTS)
        time.sleep(self._dice.random() * 0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    def close(self) -> None:
        """Closes what is open."""
        for _, connection in self._held:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        if self._dice.random() < 0.5:  # a reset instead of an orderly end
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
