"""A server process pinned to one core, and the CPU time that it has used."""

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
    """Runs a Python program that says `listening on HOST:PORT`, on one core.

    Args:
        core: the core to pin it to.
        arguments: after `python`.

    Attributes:
        address: `host:port`.
    """

    def __init__(self, core: int, *arguments: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=self._log,
            stderr=self._log,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self._accounts = psutil.Process(self._process.pid)
        self.address = self._wait()

    def cpu_seconds(self) -> float:
        """User and system time so far, of it and its children."""
        processes = [self._accounts, *self._accounts.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)

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

    def _wait(self) -> str:
        limit = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < limit and self._process.poll() is None:
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", self._read())
            if found:
                return found[1]
            time.sleep(0.02)
        raise RuntimeError(f"the server does not listen:\n{self._read()}")

    def _read(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()
