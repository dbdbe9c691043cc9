"""Floods of frames, and what others see of a server meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness.launch import ServerProcess
from ranker.client import RankerClient
from ranker.errors import RankerError
from tests.waiting import PATIENCE

MIB = 2**20


@contextmanager
def flood(address: str, kind: str, connections: int = 20) -> Iterator[None]:
    """Sends on so many connections at once, from a process of its own."""
    command = [sys.executable, "-m", "tests.end_to_end.flooder", address, kind, str(connections)]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@dataclass
class Seen:
    """What a caller who does nothing wrong sees.

    Attributes:
        latencies: seconds of each answer, without those in which the caller or a worker had work
            to do and the machine no core to do it on.
        errors: of the requests that failed.
        base: bytes that the server's workers held before.
        most: bytes that they held at the most.
    """

    latencies: list[float] = field(default_factory=list)
    errors: list[RankerError] = field(default_factory=list)
    base: int = 0
    most: int = 0

    @property
    def growth(self) -> int:
        """Bytes by which the workers grew at the most."""
        return self.most - self.base

    @property
    def worst(self) -> float:
        """The longest wait for an answer, in seconds."""
        return max(self.latencies)

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency, in seconds."""
        return float(np.percentile(self.latencies, 99))


def held(server: ServerProcess) -> int:
    """The bytes that a server's workers hold."""
    return _held(_workers(server))


def _workers(server: ServerProcess) -> list[psutil.Process]:
    """To find them costs much: it looks at all processes of the machine."""
    workers = [each for each in server.processes() if re.search(r" \S*worker ", _line(each))]
    assert workers
    return workers


def _held(workers: list[psutil.Process]) -> int:
    return sum(each.memory_info().rss for each in workers)


def _without_core(workers: list[psutil.Process]) -> float:
    """Seconds for which this thread, and the workers' loops, have waited for a core so far.

    The second number of /proc/.../schedstat (sched-stats in the kernel's documentation).
    """
    total = 0
    for process in ("thread-self", *(str(each.pid) for each in workers)):
        with suppress(OSError):  # another worker has taken its place; or a system without the file
            total += int(Path(f"/proc/{process}/schedstat").read_text().split()[1])
    return total / 1e9


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


@contextmanager
def another_caller(server: ServerProcess, rows: np.ndarray) -> Iterator[Seen]:
    """Ranks a list a hundred times a second meanwhile, and watches the memory."""
    seen, over = Seen(), threading.Event()
    with RankerClient(server.address, timeout=PATIENCE) as client:
        client.rank(rows, timeout=10.0)
        workers = _workers(server)
        seen.base = seen.most = _held(workers)

        def ask() -> None:
            while not over.wait(0.01):
                began = time.monotonic() - _without_core(workers)
                try:
                    client.rank(rows, timeout=20.0)
                except RankerError as error:
                    seen.errors.append(error)
                ended = time.monotonic() - _without_core(workers)
                seen.latencies.append(max(0.0, ended - began))

        def watch() -> None:
            nonlocal workers
            while not over.wait(0.02):
                try:
                    seen.most = max(seen.most, _held(workers))
                except psutil.NoSuchProcess:  # another has taken its place, or will
                    workers = _workers(server)

        threads = [threading.Thread(target=each, daemon=True) for each in (ask, watch)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in threads:
                thread.join(25.0)
