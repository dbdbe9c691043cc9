"""A light load generator: one process, one event loop, requests encoded beforehand.

Open loop: requests leave at the moments of a Poisson process, whatever the
server does, and latency counts from the moment that was meant. Closed loop:
so many callers, each of whom asks again once answered, and latency counts from
the sending, which a stalled server keeps from happening: use it for
throughput, not for latency.

A generator that is short of CPU measures itself. It knows from how late it
sent, and from its own CPU time, and says so.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from loadtests.callers import Caller
from loadtests.traffic import Request

MAX_SECONDS = 60.0
"""Latencies above it count as it."""
BUSY = 0.85
"""The fraction of a core beyond which the generator says that it was the bottleneck."""
LATE = 0.5
"""And the fraction of the median latency beyond which its own lateness is most of what it sees."""

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Runs a coroutine on a loop whose clock is finer than a request's latency.

    asyncio's default selector rounds every wait up to whole milliseconds.
    """

    async def started() -> T:
        return await main()

    def loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(started())


class Latencies:
    """A histogram of seconds, to three digits between a microsecond and a minute."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, round(MAX_SECONDS * 1e6), 3)

    def record(self, seconds: float) -> None:
        """Counts one."""
        self._histogram.record_value(min(max(1, round(seconds * 1e6)), round(MAX_SECONDS * 1e6)))

    def percentile(self, percentile: float) -> float:
        """Seconds; 0 if nothing was counted."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1e6


@dataclass
class Measurement:
    """What one run found.

    Attributes:
        offered: requests per second that were meant; NaN in closed loop.
        seconds: from the first request to the last one's sending.
        sent: the number of requests.
        failed: the failures among them, by gRPC status.
        latency: of all requests, failures included.
        late: how long after the moment that was meant each was sent.
        cpu: CPU time of the generator, as a fraction of one core.
    """

    offered: float
    seconds: float = 0.0
    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    latency: Latencies = field(default_factory=Latencies)
    late: Latencies = field(default_factory=Latencies)
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second that were sent."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> int:
        """How many requests failed."""
        return self.failed.total()

    @property
    def bottleneck(self) -> str:
        """Why these are the generator's own figures and not the server's; empty if they aren't."""
        if self.cpu > BUSY:
            return f"the generator used {self.cpu:.0%} of a core"
        late, median = self.late.percentile(50), self.latency.percentile(50)
        if late > LATE * median:
            return f"half of the requests left {1e3 * late:.2g} ms late or later"
        return ""


def poisson(rate: float, seconds: float, seed: int = 0) -> Iterator[float]:
    """The moments of a Poisson process of that many per second, in seconds from its start."""
    chance = random.Random(seed)
    moment = chance.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(rate)


async def open_loop(
    caller: Caller, traffic: Iterator[Request], rate: float, seconds: float
) -> Measurement:
    """Sends so many requests per second for so long, and waits for the answers."""
    found = Measurement(offered=rate)
    tasks: set[asyncio.Task[None]] = set()
    clock, cpu = time.perf_counter(), time.process_time()

    async def ask(request: Request, intended: float) -> None:
        found.late.record(time.perf_counter() - intended)
        status = await caller.ask(request)
        _count(found, status, time.perf_counter() - intended)

    for moment in poisson(rate, seconds):
        intended = clock + moment
        await asyncio.sleep(max(0.0, intended - time.perf_counter()))
        task = asyncio.create_task(ask(next(traffic), intended))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.sleep(clock + seconds - time.perf_counter())
    found.seconds = time.perf_counter() - clock
    found.cpu = (time.process_time() - cpu) / found.seconds
    await asyncio.gather(*tasks)
    return found


async def closed_loop(
    caller: Caller, traffic: Iterator[Request], in_flight: int, seconds: float
) -> Measurement:
    """Keeps so many requests in flight for so long, and waits for the last answers."""
    found = Measurement(offered=float("nan"))
    clock, cpu = time.perf_counter(), time.process_time()

    async def ask_on() -> None:
        while (sent := time.perf_counter()) < clock + seconds:
            status = await caller.ask(next(traffic))
            _count(found, status, time.perf_counter() - sent)

    await asyncio.gather(*(ask_on() for _ in range(in_flight)))
    found.seconds = time.perf_counter() - clock
    found.cpu = (time.process_time() - cpu) / found.seconds
    return found


def _count(found: Measurement, status: str, latency: float) -> None:
    found.sent += 1
    found.latency.record(latency)
    if status != "OK":
        found.failed[status] += 1
