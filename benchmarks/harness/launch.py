"""Servers in processes of their own: started on chosen cores, watched, ended.

A server may be a tree of processes. Its CPU time and its memory are the whole tree's.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import psutil

from benchmarks.harness.machine import on_cores
from benchmarks.harness.scrape import Scrape
from ranker.client import RankerClient, Tls

STARTUP_SECONDS = 60.0
STOP_SECONDS = 60.0
"""More than a ranking server's own limit for draining."""


class Usage(NamedTuple):
    """What processes hold, added up.

    Of a page that n processes share, `rss` counts n, `pss` an nth for each. Both are in bytes.
    """

    rss: int
    pss: int
    fds: int
    threads: int

    def __str__(self) -> str:
        memory = f"{self.rss / 2**20:.1f} MiB resident ({self.pss / 2**20:.1f} proportional)"
        return f"{memory}, {self.fds} fds, {self.threads} threads"


class ServerProcess:
    """A program that says `listening on 127.0.0.1:PORT`, and the processes that it starts.

    As a context manager it is stopped at the end. By default it may run where this process may,
    has its environment, starts in its folder, and writes its log to a file that is deleted.

    Raises:
        RuntimeError: it does not start; has what it printed.
    """

    exit_codes: ClassVar[tuple[int, ...]] = (0, -signal.SIGTERM)
    """With which it may end when it is told to."""
    group: ClassVar[int | None] = None
    """The process group that it joins; 0 is one of its own, None this process's."""
    tls: Tls | None = None  # how to connect

    def __init__(
        self, *command: str, cores: Collection[int] = (), log: Path | None = None,
        environment: Mapping[str, str] | None = None, folder: Path | None = None,
    ) -> None:  # fmt: skip
        self._temporary = tempfile.TemporaryDirectory()
        self.log = log or Path(self._temporary.name) / "server.log"
        with self.log.open("wb") as log_file, on_cores(*(cores or os.sched_getaffinity(0))):
            how: Any = {"stdin": subprocess.DEVNULL, "stdout": log_file, "stderr": log_file}
            how |= {"env": environment, "cwd": folder, "process_group": self.group}
            self.process = subprocess.Popen(command, **how)
        try:
            self.address = self.wait_for_log(r"listening on (127\.0\.0\.1:\d+)")[1]
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        """Where it listens, for `h2load`."""
        return f"http{'s' if self.tls else ''}://{self.address}"

    def wait_ready(self) -> None:
        """Waits until it answers; most do as soon as they listen."""

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Waits until the log has a match. RuntimeError: it ends, or a minute passes, before."""
        limit = time.monotonic() + STARTUP_SECONDS
        while True:
            over = self.process.poll() is not None or time.monotonic() > limit
            text = self.log.read_text()  # once more after the end
            if found := re.search(pattern, text):
                return found
            if over:
                raise RuntimeError(f"no {pattern!r} in the server's log:\n{text}")
            time.sleep(0.02)

    def processes(self) -> list[psutil.Process]:
        """The first process and all below it that run now; none once the first has ended."""
        if self.process.poll() is not None:
            return []
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def cpu_seconds(self, only: str = "") -> float:
        """User and system time so far of the processes that run now, or those of one `role`."""
        seconds = 0.0
        for process in self.processes():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):  # it has ended
                if not only or role(process) == only:
                    # As clock_getcpuclockid(3) finds the clock on Linux; psutil's has hundredths.
                    seconds += time.clock_gettime(~process.pid << 3 | 2)
        return seconds

    def usage(self) -> Usage:
        """What all processes that run now hold."""
        found = [Usage(0, 0, 0, 0)]
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(usage(process))
        return Usage(*map(sum, zip(*found, strict=True)))

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Sends the first process a signal."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ends it with SIGTERM; returns the first process's exit code."""
        if self.process.poll() is None:
            self.signal()
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends what is left of it at once."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        code = self.stop()
        if kind is None and code not in self.exit_codes:
            raise RuntimeError(f"the server ended with {code}:\n{self.log.read_text()}")


class RankerServer(ServerProcess):
    """`ranker serve` on free ports of the loopback interface.

    Takes its models and options. What this process's environment says of its settings does not
    count; `environment` has more variables.
    """

    exit_codes = (0,)
    program: ClassVar[tuple[str, ...]] = ("-m", "ranker")
    # The same everywhere, also where there is a GPU.
    settings: ClassVar[Mapping[str, str]] = {"RANKER_DEVICE": "cpu", "RANKER_HTTP_PORT": "0"}

    def __init__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, **places: Any
    ) -> None:
        own = {name: text for name, text in os.environ.items() if not name.startswith("RANKER_")}
        own |= {**self.settings, **(environment or {})}
        ports = ("--host", "127.0.0.1", "--port", "0", "--metrics-port", "0")
        command = (sys.executable, *self.program, "serve", *ports, *arguments)
        super().__init__(*command, environment=own, **places)

    def wait_ready(self) -> None:
        """Waits until its health is SERVING."""
        with RankerClient(self.address, tls=self.tls) as client:
            client.wait_ready(STARTUP_SECONDS)

    @cached_property
    def metrics_url(self) -> str:
        """Where its metrics are."""
        port = self.wait_for_log(r"metrics on port (\d+)")[1]
        return f"http://127.0.0.1:{port}/metrics"

    def scrape(self) -> Scrape:
        """What its metrics say now."""
        return Scrape.of(self.metrics_url)


def role(process: psutil.Process) -> str:
    """What a process of a ranking server is for, by the module that it runs: `worker`, say."""
    found = re.search(r"ranker\.process\.(?!program)(\w+)", " ".join(process.cmdline()))
    return found[1] if found else "supervisor"


def usage(process: psutil.Process) -> Usage:
    """What one process holds."""
    memory = process.memory_full_info()
    return Usage(memory.rss, memory.pss, process.num_fds(), process.num_threads())
