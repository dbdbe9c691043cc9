"""Finds the highest rate at which a server still meets its objective.

The rate doubles until a step misses, then the gap between the last rate that
met the objective and the first that did not is halved, on a logarithmic scale,
until it is narrow. A step in which the generator was the bottleneck counts as a miss, and
the result says so. A miss is measured again before it is believed: something else on the
machine can make an answer late, and nothing can make it early.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loadtests.measurement import Measurement
from loadtests.scrape import ServerShare

RESOLUTION = 1.08
"""The gap, as a ratio, at which the search ends."""


@dataclass(frozen=True)
class Step:
    """One rate, tried.

    Attributes:
        found: what the generator saw.
        server: what the server said of the same time; None if it has no `/metrics` here.
        missed: what of the objective was missed, a line each.
    """

    found: Measurement
    server: ServerShare | None
    missed: list[str]


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        steps: all that were measured, in order of time.
        rate: the highest rate that met the objective, in requests per second; 0 if none did.
        limited_by: what ended the search, if it wasn't the server.
    """

    steps: list[Step]
    rate: float
    limited_by: str


async def search(measure: Callable[[float], Awaitable[Step]], start: float, limit: float) -> Result:
    """Searches between two rates.

    Args:
        measure: tries a rate, in requests per second.
        start: the first rate; should be easy.
        limit: the highest rate to try.
    """
    steps: list[Step] = []
    met, missed, limited_by = 0.0, None, ""
    rate = start
    while True:
        for _ in range(2):
            step = await measure(rate)
            steps.append(step)
            bottleneck = step.found.bottleneck
            if not step.missed and not bottleneck:
                met = rate
                break
        else:
            missed = rate
            limited_by = bottleneck and f"at {rate:.0f}/s {bottleneck}"
        if missed is None:
            if rate >= limit:
                return Result(steps, met, f"{limit:g}/s was the most to try")
            rate = min(2 * rate, limit)
        elif met == 0.0 or missed / met <= RESOLUTION:
            return Result(steps, met, limited_by)
        else:
            rate = (met * missed) ** 0.5
