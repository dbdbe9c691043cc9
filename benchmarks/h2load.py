"""h2load (Debian: nghttp2-client): gRPC calls by a program in C, cheap enough to keep servers busy.

It reads no message: whoever uses it must count the answers' statuses elsewhere.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.generator import poisson

HEADERS = ("-H", "content-type: application/grpc", "-H", "te: trailers")
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
    bodies: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    cores: Collection[int],
) -> list[Call]:
    """Makes calls at the moments of a Poisson process, whatever the server does.

    h2load times the gap to the next call anew when it has sent one. So a process that
    was short of CPU sends the rest later, and the rate falls a little below what was
    asked for; a server that is slow delays nothing.

    Args:
        address: the server's.
        method: the full name of the method, a unary one.
        bodies: a message each; every one has a process and a connection of its own.
        rate: calls per second, of all together.
        seconds: how long.
        cores: where the processes may run.

    Returns:
        The calls, as they were sent.

    Raises:
        RuntimeError: a call failed on the way.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes, logs = [], []
        for number, message in enumerate(bodies):
            body = _body(Path(folder) / f"{number}.body", [message])
            moments = poisson(rate / len(bodies), seconds, seed=number)
            script = Path(folder) / f"{number}.script"
            script.write_text(
                "".join(f"{moment * 1e3:.3f}\thttp://{address}{method}\n" for moment in moments)
            )
            logs.append(Path(folder) / f"{number}.log")
            paced = [f"--timing-script-file={script}", f"--log-file={logs[-1]}"]
            processes.append(_start([*paced, "-c1", f"-m{MAX_STREAMS}", "-d", body], cores))
        for process in processes:
            _answered(process.communicate()[0])
        lines = [line.split("\t") for log in logs for line in log.read_text().splitlines()]
    return sorted(
        (Call(int(sent) / 1e6, int(latency) / 1e6) for sent, _, latency in lines),
        key=lambda call: call.sent,
    )


def _body(path: Path, messages: Sequence[bytes]) -> Path:
    """A file with messages as gRPC frames them."""
    path.write_bytes(b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in messages))
    return path


def _start(arguments: Sequence[str | Path], cores: Collection[int]) -> subprocess.Popen[str]:
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
