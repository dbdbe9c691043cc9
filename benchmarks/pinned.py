"""A server process pinned to cores, and the CPU time that it has used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Self

import psutil

STARTUP_SECONDS = 60


class PinnedServer:
    """Runs a Python program that says `listening on HOST:PORT`, on given cores.

    Args:
        cores: the core, or cores, to pin it to.
        arguments: after `python`.

    Attributes:
        address: `host:port`.
    """

    def __init__(self, cores: int | set[int], *arguments: str) -> None:
        chosen = {cores} if isinstance(cores, int) else cores
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=self._log,
            stderr=self._log,
            preexec_fn=lambda: os.sched_setaffinity(0, chosen),
        )
        self._accounts = psutil.Process(self._process.pid)
        self.address = self.logged(r"listening on (127\.0\.0\.1:\d+)")

    def cpu_seconds(self) -> float:
        """User and system time so far, of it and its children."""
        processes = [self._accounts, *self._accounts.children(recursive=True)]
        return sum(time.clock_gettime(_cpu_clock(process.pid)) for process in processes)

    def logged(self, pattern: str) -> str:
        """Waits until the log has a match of the pattern; returns its first group.

        Raises:
            RuntimeError: it does not come.
        """
        limit = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < limit and self._process.poll() is None:
            found = re.search(pattern, self._read())
            if found:
                return found[1]
            time.sleep(0.02)
        raise RuntimeError(f"the server does not say {pattern!r}:\n{self._read()}")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def rss(self) -> int:
        """Resident bytes."""
        return int(self._accounts.memory_info().rss)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._log.close()

    def _read(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()


def _cpu_clock(pid: int) -> int:
    """A process's CPU clock, as clock_getcpuclockid(3) finds it on Linux.

    It has nanoseconds, where what psutil reads has hundredths of a second.
    """
    return ~pid << 3 | 2
