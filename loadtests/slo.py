"""A service level objective, as one writes it: `p99=10ms,errors=0.1%`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

_LATENCY = re.compile(r"p(?P<percentile>\d+(?:\.\d+)?)=(?P<value>\d+(?:\.\d+)?)(?P<unit>us|ms|s)")
_ERRORS = re.compile(r"errors=(?P<percent>\d+(?:\.\d+)?)%")
_PER_SECOND = {"us": 1e6, "ms": 1e3, "s": 1.0}


@dataclass(frozen=True)
class Slo:
    """How slow answers may be, and how many may fail.

    Attributes:
        latencies: percentile (0 to 100) to the seconds that it may be at most.
        errors: the fraction of requests that may fail; 1 if any number may.
    """

    latencies: tuple[tuple[float, float], ...]
    errors: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Reads terms like `p99=10ms`, `p50=800us` and `errors=0.1%`, separated by commas.

        Raises:
            ValueError: names the term that is neither.
        """
        latencies: list[tuple[float, float]] = []
        errors = 1.0
        for term in text.replace(" ", "").split(","):
            if found := _LATENCY.fullmatch(term):
                percentile = float(found["percentile"])
                if percentile > 100:
                    raise ValueError(f"{term!r}: a percentile is at most 100")
                latencies.append((percentile, float(found["value"]) / _PER_SECOND[found["unit"]]))
            elif found := _ERRORS.fullmatch(term):
                errors = float(found["percent"]) / 100
            else:
                raise ValueError(f"{term!r}: expected p<percentile>=<time>us|ms|s or errors=<n>%")
        return cls(tuple(latencies), errors)

    def misses(
        self, requests: int, failures: int, percentile: Callable[[float], float]
    ) -> list[str]:
        """What of the objective was not met, each in one line; empty if all was.

        Args:
            requests: how many were sent, failures included. None at all is a miss.
            failures: how many of them failed.
            percentile: from a percentile (0 to 100) to seconds.
        """
        if requests == 0:
            return ["no requests were made"]
        missed = []
        if failures / requests > self.errors:
            missed.append(
                f"errors: {failures} of {requests} failed, more than {100 * self.errors:g} %"
            )
        for rank, limit in self.latencies:
            found = percentile(rank)
            if not found <= limit or math.isnan(found):
                missed.append(f"p{rank:g}: {1e3 * found:.3g} ms, more than {1e3 * limit:g} ms")
        return missed
