"""A server, a caller and traffic put together: runs a step and takes down both sides' figures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from loadtests.callers import CALLERS
from loadtests.generator import closed_loop, open_loop
from loadtests.measurement import Measurement
from loadtests.scrape import Scrape, ServerShare
from loadtests.search import Step
from loadtests.slo import Slo
from loadtests.traffic import Traffic

WARM_UP_SECONDS = 1.0
WARM_UP_RATE = 20.0


@dataclass(frozen=True)
class Rig:
    """What a step needs.

    Attributes:
        target: the server's gRPC address.
        metrics: the URL of its metrics; empty if they can't be had.
        method: `unary` or `stream`.
        traffic: what to ask.
        seconds: the length of a step.
        slo: what to hold the server to.
    """

    target: str
    metrics: str
    method: str
    traffic: Traffic
    seconds: float
    slo: Slo

    async def open(self, rate: float) -> Step:
        """Sends so many requests per second."""
        async with CALLERS[self.method](self.target) as caller:
            await open_loop(caller, self.traffic, min(rate, WARM_UP_RATE), WARM_UP_SECONDS)
            before = await self._scrape()
            found = await open_loop(caller, self.traffic, rate, self.seconds)
            return self._step(found, before, await self._scrape())

    async def closed(self, in_flight: int) -> Step:
        """Keeps so many requests in flight."""
        async with CALLERS[self.method](self.target) as caller:
            await closed_loop(caller, self.traffic, in_flight, WARM_UP_SECONDS)
            before = await self._scrape()
            found = await closed_loop(caller, self.traffic, in_flight, self.seconds)
            return self._step(found, before, await self._scrape())

    async def _scrape(self) -> Scrape | None:
        return await asyncio.to_thread(Scrape.of, self.metrics) if self.metrics else None

    def _step(self, found: Measurement, before: Scrape | None, after: Scrape | None) -> Step:
        missed = self.slo.misses(found.sent, found.failures, found.latency.percentile)
        server = ServerShare.between(before, after) if before and after else None
        return Step(found, server, missed)
