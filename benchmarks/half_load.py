"""Tail latency at half of what a server can do.

h2load finds the capacity in a closed loop, then calls in an open one (Poisson) at half of
that. It is a program in C: a generator in Python is itself milliseconds late at the 99th
percentile at these rates. Its processes send a list each, again and again; the simd
engine walks a list without branches, so there is nothing in that for a branch predictor
to learn.

Half of the greatest rate is more than half of the work: what arrives alone is scored alone.

Calls that come at random wait for each other however even the server's pace: one at a
time, at half load, p99 is 4.3 times p50 (the queue M/D/1). What a server that works in
batches would have if nothing but that held calls up is computed, from the moments at which
they were really sent.

A host that takes a core away for milliseconds, some times a second, decides the
99th percentile of a whole run. So there is also that of a quarter of a second, of which
more than half have no such pause: the median over the quarters.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks import h2load
from benchmarks.closed_loop import RANK
from benchmarks.pinned import PinnedServer

LISTS = 8
CONNECTIONS, IN_FLIGHT = 2, 2
"""Of each process in the closed loop: 32 calls in flight in all."""
WARM_UP_SECONDS = 0.5
WINDOW = 0.25
"""Seconds."""


@dataclass(frozen=True)
class HalfLoad:
    """What one measurement gave.

    Attributes:
        rate: calls per second that were made.
        busy: cores that the server was busy on.
        p50: of the latency, in seconds.
        p99: likewise.
        window: the median over windows of a quarter of a second of p99 / p50.
        queueing: p99 / p50 if calls had but waited for each other; see `queueing`.
    """

    rate: float
    busy: float
    p50: float
    p99: float
    window: float
    queueing: float


def measure(
    server: PinnedServer, lists: Sequence[bytes], seconds: float, cores: Collection[int]
) -> HalfLoad:
    """Loads a server for twice so long.

    Args:
        server: any that answers `Rank`.
        lists: encoded requests; the first eight are used.
        seconds: for the capacity, and again at half of it.
        cores: where h2load may run.

    Raises:
        RuntimeError: a call failed on the way. What the answers say is not looked at.
    """
    flat_out(server, lists, WARM_UP_SECONDS, cores)
    before = server.cpu_seconds()
    full = flat_out(server, lists, seconds, cores)
    cost = (server.cpu_seconds() - before) / full.calls
    half = full.calls / full.seconds / 2
    before = server.cpu_seconds()
    calls = h2load.open_loop(
        server.address, RANK, lists[:LISTS], stretches=[(half, seconds)], cores=cores
    )
    cpu = server.cpu_seconds() - before
    took = calls[-1].sent - calls[0].sent
    p50, p99 = np.percentile([call.latency for call in calls], (50, 99))
    windows: dict[int, list[float]] = {}
    for call in calls:
        windows.setdefault(int((call.sent - calls[0].sent) / WINDOW), []).append(call.latency)
    del windows[max(windows)]  # it is not a whole one
    window = median(_tail(latencies) for latencies in windows.values())
    ideal = queueing([call.sent for call in calls], cost, cpu)
    return HalfLoad(len(calls) / took, cpu / took, float(p50), float(p99), window, ideal)


def queueing(sent: Sequence[float], cost: float, worked: float) -> float:
    """p99 / p50 on a server that works evenly, and takes all that waits as one batch.

    What it does for each batch, whatever its size, is so chosen that it works as long as
    the real one did.

    Args:
        sent: when the calls were, in order, in seconds.
        cost: seconds of work per call, in large batches.
        worked: seconds that the real server worked on all of them.
    """
    low, high = 0.0, worked
    cost = min(cost, worked / len(sent))
    for _ in range(40):
        fixed = (low + high) / 2
        latencies, batches = _serve(sent, fixed, cost)
        if batches * fixed + len(sent) * cost < worked:
            low = fixed
        else:
            high = fixed
    return _tail(latencies)


def _serve(sent: Sequence[float], fixed: float, cost: float) -> tuple[list[float], int]:
    """The latencies if a batch of n calls takes `fixed + n * cost` seconds, and the batches."""
    latencies: list[float] = []
    now, batches = sent[0], 0
    while (done := len(latencies)) < len(sent):
        now = max(now, sent[done])
        waiting = bisect_right(sent, now, done) - done
        now += fixed + waiting * cost
        latencies += [now - each for each in sent[done : done + waiting]]
        batches += 1
    return latencies, batches


def flat_out(
    server: PinnedServer, lists: Sequence[bytes], seconds: float, cores: Collection[int]
) -> h2load.Load:
    """Keeps 32 calls in flight, of the first eight lists; see `measure`."""
    return h2load.run(
        server.address,
        RANK,
        [[each] for each in lists[:LISTS]],
        clients=CONNECTIONS,
        streams=IN_FLIGHT,
        seconds=seconds,
        cores=cores,
    )


def _tail(latencies: list[float]) -> float:
    p50, p99 = np.percentile(latencies, (50, 99))
    return float(p99 / p50)
