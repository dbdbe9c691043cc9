"""A light load generator: one process, one event loop, requests encoded beforehand.

Open loop: requests leave at the moments of a Poisson process, whatever the
server does, and latency counts from the moment that was meant. Closed loop:
so many callers, each of whom asks again once answered, and latency counts from
the sending, which a stalled server keeps from happening: use it for
throughput, not for latency.

A generator that is short of CPU measures itself; `Measurement.bottleneck` says so.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from loadtests.callers import Caller
from loadtests.measurement import Effort, Measurement
from loadtests.traffic import Request

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
    clock, effort = time.perf_counter(), Effort()

    async def ask(request: Request, intended: float) -> None:
        found.late.record(time.perf_counter() - intended)
        status = await caller.ask(request)
        found.count(status, time.perf_counter() - intended)

    for moment in poisson(rate, seconds):
        intended = clock + moment
        await asyncio.sleep(max(0.0, intended - time.perf_counter()))
        task = asyncio.create_task(ask(next(traffic), intended))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.sleep(clock + seconds - time.perf_counter())
    effort.record(found)
    await asyncio.gather(*tasks)
    return found


async def closed_loop(
    caller: Caller, traffic: Iterator[Request], in_flight: int, seconds: float
) -> Measurement:
    """Keeps so many requests in flight for so long, and waits for the last answers."""
    found = Measurement(offered=float("nan"))
    clock, effort = time.perf_counter(), Effort()

    async def ask_on() -> None:
        while (sent := time.perf_counter()) < clock + seconds:
            status = await caller.ask(next(traffic))
            found.count(status, time.perf_counter() - sent)

    await asyncio.gather(*(ask_on() for _ in range(in_flight)))
    effort.record(found)
    return found
