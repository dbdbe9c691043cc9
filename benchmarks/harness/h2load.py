"""h2load (Debian: nghttp2-client): loads by a program in C, cheap enough to keep servers busy.

It reads no answer: count statuses elsewhere. Its processes run where the caller may.
"""

from __future__ import annotations

import itertools
import random
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")
HTTP1 = ("--h1", "-H", "content-type: application/octet-stream")
PROCESSES, START_SECONDS = 128, 2.0
"""Of an open loop, and what it takes to start them."""
ROUNDED = 0.0006
"""Seconds by which h2load is late with a call, on average."""
MAX_RATE = PROCESSES / ROUNDED / 2
"""Calls per second. Beyond it the rounding is most of a gap."""
MAX_STREAMS = 1000
"""Calls in flight on a connection of an open loop: more than a server that keeps up ever has."""


class Done(NamedTuple):
    """What came of a closed loop: calls answered, seconds, and the load's own CPU seconds."""

    calls: int
    seconds: float
    cpu: float


class Call(NamedTuple):
    """One call of an open loop: when, in seconds since the epoch, and seconds to its end."""

    sent: float
    latency: float


class Calls(list[Call]):
    """Those of one open loop, in the order of their sending."""

    @property
    def seconds(self) -> float:
        """From the first one's sending to the last answer."""
        return max(call.sent + call.latency for call in self) - self[0].sent

    @property
    def rate(self) -> float:
        """Sent per second."""
        return len(self) / (self[-1].sent - self[0].sent)

    def percentile(self, percentile: float) -> float:
        """Of the latency, in seconds."""
        return float(np.percentile([call.latency for call in self], percentile))


def missing() -> str:
    """What has to be installed; empty if it is there."""
    return "" if shutil.which("h2load") else "no h2load (Debian: nghttp2-client)"


def required() -> None:
    """Raises ClickException if it isn't installed."""
    if missing():
        raise click.ClickException(missing())


def framed(*messages: bytes) -> bytes:
    """Messages as gRPC frames them."""
    return b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in messages)


def keep_busy(
    url: str, bodies: Sequence[bytes], *, clients: int, streams: int, seconds: float,
    headers: Sequence[str] = GRPC,
) -> Done:  # fmt: skip
    """Makes the same calls over and over, in a closed loop.

    Every body is posted by a process of its own, on so many connections (`clients`), with so many
    calls in flight on each (`streams`).

    Raises:
        RuntimeError: a call failed on the way.
    """
    with tempfile.TemporaryDirectory() as folder:
        before, began, processes = cpu_of_ended(), time.monotonic(), []
        for number, body in enumerate(bodies):
            path = Path(folder) / str(number)
            path.write_bytes(body)
            limits = [f"--duration={round(seconds * 1e3)}ms", f"-c{clients}", f"-m{streams}"]
            processes.append(_start(*headers, *limits, "-d", str(path), url))
        calls = sum(_answered(process) for process in processes)
        return Done(calls, time.monotonic() - began, cpu_of_ended() - before)


def open_loop(
    url: str, bodies: Sequence[bytes], rate: float, seconds: float, timeout: float | None = None
) -> Calls:
    """Makes calls at random moments, whatever the server does; returns them as they were sent.

    Many processes send at a low rate each, all together close to a Poisson process. h2load
    times the gap to the next call anew when it has sent one, rounded up to milliseconds:
    what that costs on average is taken off the gaps. A process that was short of CPU sends
    the rest later, and the rate falls below what was asked for; look at the calls. A server
    that is slow delays nothing.

    Every process has a connection of its own, and repeats one of the bodies. h2load tells the
    server of the timeout, in seconds, and waits on.

    Raises:
        ValueError: more calls per second than h2load can time.
        RuntimeError: a call failed on the way.
    """
    if rate >= MAX_RATE:
        raise ValueError(f"at most {MAX_RATE:.0f} calls per second")
    told = [] if timeout is None else ["-H", f"grpc-timeout: {round(timeout * 1e3)}m"]
    pace = 1 / (PROCESSES / rate - ROUNDED)  # by the hurried clock of each process
    length = seconds * rate / PROCESSES / pace
    with tempfile.TemporaryDirectory() as name:
        folder, processes, began = Path(name), [], time.monotonic()
        for number, body in zip(range(PROCESSES), itertools.cycle(bodies), strict=False):
            path = folder / f"{number}.body"
            path.write_bytes(body)
            script, log = path.with_suffix(".script"), path.with_suffix(".log")
            start = began + START_SECONDS - time.monotonic()  # the same moment for all
            moments = [1e3 * max(0, start + each) for each in poisson(pace, length, number)]
            script.write_text("".join(f"{at:.3f}\t{url}\n" for at in moments))
            paced = [f"--timing-script-file={script}", f"--log-file={log}", f"-m{MAX_STREAMS}"]
            if moments:
                processes.append(_start(*GRPC, *told, *paced, "-c1", "-d", str(path)))
        for process in processes:
            _answered(process)
        lines = [line for log in folder.glob("*.log") for line in log.read_text().splitlines()]
    calls = (Call(int(at) / 1e6, int(took) / 1e6) for at, _, took in map(str.split, lines))
    return Calls(sorted(calls))


def cpu_of_ended() -> float:
    """CPU seconds of this process's children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def poisson(rate: float, seconds: float, seed: int = 0) -> Iterator[float]:
    """The moments of a Poisson process of that many per second, in seconds from its start."""
    chance = random.Random(seed)
    moment = chance.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(rate)


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["h2load", *arguments], stdout=subprocess.PIPE, text=True)


def _answered(process: subprocess.Popen[str]) -> int:
    output = process.communicate()[0]
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", output)
    if counts is None or int(counts[2]) or int(counts[3]):
        raise RuntimeError(f"h2load failed:\n{output}")
    return int(counts[1])
