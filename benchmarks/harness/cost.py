"""What requests cost a server, and how it fares, under one load or another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.harness import h2load, loads
from benchmarks.harness.launch import RankerServer, ServerProcess
from benchmarks.harness.requests import Request
from ranker.client import channel as wire

IN_FLIGHT = 32
LISTS, SHAPE = 8, (8, 2, 2)
"""Of h2load: processes, which repeat a list each, connections of each, and calls in flight on
each of these, `IN_FLIGHT` in all."""
WARM_UP_SECONDS, WINDOW = 0.5, 0.25  # seconds
MAX_FAILED = 0.001
"""Of the calls: they count as quick ones."""
CPU, RATE = "CPU µs", "requests/s"
HEADS = (CPU, RATE, "p50 ms", "p99 ms", "p99 ms, in 1/4 s")

Cost = dict[str, float]
"""By `HEADS`: CPU time of all the server's processes per request, rate and latency.

What the load does not tell is NaN. The last is the median over quarters of a second of their p99:
a host that takes a core away now and then spoils the p99 of the whole.
"""


def cost(cpu: float, count: float, seconds: float, *latencies: float) -> Cost:
    """From seconds of CPU, requests, and seconds."""
    nan = (math.nan,) * (3 - len(latencies))
    milliseconds = (1e3 * each for each in (*latencies, *nan))
    return dict(zip(HEADS, (cpu / count * 1e6, count / seconds, *milliseconds), strict=True))


def warm(server: ServerProcess, requests: Sequence[Request], method: str = "unary") -> None:
    """Loads a server for a moment; some of the answers are checked."""
    by_callers(server, requests, WARM_UP_SECONDS, method)


def by_callers(
    server: ServerProcess, requests: Sequence[Request], seconds: float, method: str = "unary",
    in_flight: int = IN_FLIGHT,
) -> Cost:  # fmt: skip
    """Under a `loads.closed_loop`."""
    cpu = server.cpu_seconds()
    found = loads.closed_loop(server.address, requests, in_flight, seconds, method, server.tls)
    cpu, count = server.cpu_seconds() - cpu, len(found.latencies)
    return cost(cpu, count, found.seconds, *np.percentile(found.latencies, (50, 99)))


def by_h2load(
    server: ServerProcess, requests: Sequence[Request], seconds: float, method: str = "unary"
) -> Cost:
    """Kept busy by h2load: `IN_FLIGHT` calls with one of eight lists, or four streams of many."""
    before, cpu = answered(server), server.cpu_seconds()
    if method != "stream":
        done = flat_out(server, requests, seconds, method)
    else:
        url, streams = server.url + wire.RANK_STREAM[0], range(4)
        named = [[r.on_stream(str(i)) for i, r in enumerate(requests[k::4])] for k in streams]
        bodies = [h2load.framed(*messages) for messages in named]
        done = h2load.keep_busy(url, bodies, clients=1, streams=1, seconds=seconds)
    cpu = server.cpu_seconds() - cpu
    count = answered(server) - before if isinstance(server, RankerServer) else done.calls
    return cost(cpu, count, done.seconds)


def at_half_load(
    server: ServerProcess, requests: Sequence[Request], seconds: float, method: str = "unary"
) -> Cost:
    """Calls of `Rank` in an open loop, half as many as in `flat_out`; NaN for other methods."""
    if method != "unary":
        return cost(math.nan, math.nan, 1.0)
    full = flat_out(server, requests, seconds)
    cpu = server.cpu_seconds()
    calls = offer(server.url, requests[:LISTS], full.calls / full.seconds / 2, seconds)
    cpu = server.cpu_seconds() - cpu
    answered(server)
    windows: dict[int, list[float]] = {}
    for call in calls:
        windows.setdefault(int((call.sent - calls[0].sent) / WINDOW), []).append(call.latency)
    windows.pop(max(windows))  # it is not a whole one
    tails = [float(np.percentile(each, 99)) for each in windows.values()] or [math.nan]
    latencies = (calls.percentile(50), calls.percentile(99), float(np.median(tails)))
    return cost(cpu, len(calls), calls.seconds, *latencies)


def flat_out(
    server: ServerProcess, requests: Sequence[Request], seconds: float, method: str = "unary",
    shape: tuple[int, int, int] = SHAPE,
) -> h2load.Done:  # fmt: skip
    """Keeps `IN_FLIGHT` unary calls, or what `shape` says, in flight, each process with a list."""
    infer, (lists, clients, streams) = method == "infer", shape
    url = server.url + (loads.INFER if infer else wire.RANK[0])
    sent = (each.infer_message if infer else each.message for each in requests[:lists])
    bodies = [h2load.framed(each) for each in sent]
    return h2load.keep_busy(url, bodies, clients=clients, streams=streams, seconds=seconds)


def answered(server: ServerProcess) -> int:
    """How many requests a ranking server says that it has answered well; 0 for another one.

    Raises:
        RuntimeError: others have failed. h2load cancels what is in flight when its time is over.
    """
    if not isinstance(server, RankerServer):
        return 0
    codes = server.scrape().codes()
    if codes.total() - codes["OK"] - codes["CANCELLED"] > MAX_FAILED * codes.total():
        raise RuntimeError(f"requests failed: {dict(codes)}")
    return codes["OK"]


def offer(
    url: str, requests: Sequence[Request], rate: float, seconds: float, timeout: float | None = None
) -> h2load.Calls:
    """A `h2load.open_loop` of unary calls: 128 connections repeat a request each."""
    bodies = [h2load.framed(each.message) for each in requests[: h2load.PROCESSES]]
    return h2load.open_loop(url + wire.RANK[0], bodies, rate, seconds, timeout)
