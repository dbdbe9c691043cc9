"""h2load (Debian: nghttp2-client): gRPC calls by a program in C, cheap enough to keep servers busy.

It reads no message: whoever uses it must count the answers' statuses elsewhere.
"""

from __future__ import annotations

import itertools
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.generator import poisson

HEADERS = ("-H", "content-type: application/grpc", "-H", "te: trailers")
PROCESSES = 32
"""Of an open loop."""
START_SECONDS = 1.0
"""What it takes to start them."""
ROUNDED = 0.0006
"""Seconds by which h2load is late with a call, on average."""
MAX_RATE = PROCESSES / ROUNDED / 2
"""Calls per second. Beyond it the rounding is most of a gap."""
MAX_STREAMS = 1000
"""Calls in flight on a connection of an open loop: more than a server that keeps up ever has."""


@dataclass(frozen=True)
class Load:
    """What came of a load.

    Attributes:
        calls: how many were answered.
        seconds: how long it lasted.
        cpu: seconds of CPU time that the load itself took.
    """

    calls: int
    seconds: float
    cpu: float


def run(
    address: str,
    method: str,
    bodies: Sequence[Sequence[bytes]],
    *,
    clients: int,
    streams: int,
    seconds: float,
    cores: Collection[int],
) -> Load:
    """Makes the same calls over and over, in a closed loop.

    Args:
        address: the server's.
        method: the full name of the method.
        bodies: the messages of each call; every call has a process of its own.
        clients: connections of each process.
        streams: calls in flight on each connection.
        seconds: how long.
        cores: where the processes may run.

    Raises:
        RuntimeError: a call failed on the way.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        processes = []
        for number, messages in enumerate(bodies):
            body = _body(Path(folder) / str(number), messages)
            limits = [f"--duration={round(seconds * 1e3)}ms", f"-c{clients}", f"-m{streams}"]
            processes.append(_start([*limits, "-d", body, f"http://{address}{method}"], cores))
        calls = sum(_answered(process.communicate()[0]) for process in processes)
        took = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(calls, took, cpu)


@dataclass(frozen=True)
class Call:
    """One call of an open loop.

    Attributes:
        sent: when, in seconds since the epoch.
        latency: seconds from then to the end of the answer.
    """

    sent: float
    latency: float


def open_loop(
    address: str,
    method: str,
    messages: Sequence[bytes],
    *,
    stretches: Sequence[tuple[float, float]],
    cores: Collection[int],
    timeout: float | None = None,
) -> list[Call]:
    """Makes calls at random moments, whatever the server does.

    Many processes send at a low rate each, all together close to a Poisson process. h2load
    times the gap to the next call anew when it has sent one, rounded up to milliseconds:
    what that costs on average is taken off the gaps. A process that was short of CPU sends
    the rest later, and the rate falls below what was asked for; look at the calls. A server
    that is slow delays nothing.

    Args:
        address: the server's.
        method: the full name of the method, a unary one.
        messages: every process has a connection of its own, and repeats one of them.
        stretches: one after the other, calls per second (of all together) and seconds.
        cores: where the processes may run.
        timeout: of each call, in seconds. h2load tells the server, and waits on.

    Returns:
        The calls, as they were sent.

    Raises:
        ValueError: more calls per second than h2load can time.
        RuntimeError: a call failed on the way.
    """
    told = [] if timeout is None else ["-H", f"grpc-timeout: {round(timeout * 1e3)}m"]
    if max(rate for rate, _ in stretches) >= MAX_RATE:
        raise ValueError(f"at most {MAX_RATE:.0f} calls per second")
    with tempfile.TemporaryDirectory() as folder:
        processes, logs = [], []
        start = time.monotonic() + START_SECONDS  # of all together
        for number, message in zip(range(PROCESSES), itertools.cycle(messages), strict=False):
            body = _body(Path(folder) / f"{number}.body", [message])
            script = Path(folder) / f"{number}.script"
            moments = _moments(start - time.monotonic(), stretches, number)
            script.write_text(
                "".join(f"{at * 1e3:.3f}\thttp://{address}{method}\n" for at in moments)
            )
            logs.append(Path(folder) / f"{number}.log")
            paced = [f"--timing-script-file={script}", f"--log-file={logs[-1]}"]
            limits = ["-c1", f"-m{MAX_STREAMS}"]
            processes.append(_start([*paced, *limits, *told, "-d", body], cores))
        for process in processes:
            _answered(process.communicate()[0])
        lines = [line.split("\t") for log in logs for line in log.read_text().splitlines()]
    return sorted(
        (Call(int(sent) / 1e6, int(latency) / 1e6) for sent, _, latency in lines),
        key=lambda call: call.sent,
    )


def _moments(
    start: float, stretches: Sequence[tuple[float, float]], number: int
) -> Iterator[float]:
    """When one of the processes is to send, by its own hurried clock."""
    for rate, seconds in stretches:
        pace = 1 / (PROCESSES / rate - ROUNDED)
        length = seconds * rate / PROCESSES / pace
        yield from (start + moment for moment in poisson(pace, length, seed=number))
        start += length


def _body(path: Path, messages: Sequence[bytes]) -> Path:
    """A file with messages as gRPC frames them."""
    path.write_bytes(b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in messages))
    return path


def installed() -> bool:
    """Whether there is an h2load here."""
    return shutil.which("h2load") is not None


def _start(arguments: Sequence[str | Path], cores: Collection[int]) -> subprocess.Popen[str]:
    if not installed():
        raise RuntimeError("needs h2load (Debian: nghttp2-client)")
    return subprocess.Popen(
        ["h2load", *HEADERS, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )


def _answered(output: str) -> int:
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", output)
    if counts is None or int(counts[2]) or int(counts[3]):
        raise RuntimeError(f"h2load failed:\n{output}")
    return int(counts[1])
