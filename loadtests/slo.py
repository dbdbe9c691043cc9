"""A service level objective, as one writes it: `p99=10ms,errors=0.1%`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_NUMBER = r"\d+(?:\.\d+)?"
_TERM = re.compile(rf"p({_NUMBER})=({_NUMBER})(us|ms|s)|errors=({_NUMBER})%")
_PER_SECOND = {"us": 1e6, "ms": 1e3, "s": 1.0}


class Slo(NamedTuple):
    """How slow answers may be, and which part of them may fail, as `text` says.

    `latencies` are percentiles (0 to 100), and the seconds that each may be at most.
    """

    text: str
    latencies: tuple[tuple[float, float], ...]
    errors: float

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Reads terms like `p99=10ms`, `p50=800us` and `errors=0.1%`, separated by commas.

        Raises:
            ValueError: names the term that is neither.
        """
        latencies, errors = list[tuple[float, float]](), 1.0
        for term in text.replace(" ", "").split(","):
            found = _TERM.fullmatch(term)
            if not found:
                raise ValueError(f"{term!r}: expected p<percentile>=<time>us|ms|s or errors=<n>%")
            rank, limit, unit, percent = found.groups()
            if percent is not None:
                errors = float(percent) / 100
            elif float(rank) > 100:
                raise ValueError(f"{term!r}: a percentile is at most 100")
            else:
                latencies.append((float(rank), float(limit) / _PER_SECOND[unit]))
        return cls(text, tuple(latencies), errors)

    def misses(self, requests: int, failures: int, latency: Callable[[float], float]) -> list[str]:
        """What was not met, each in one line; empty if all was. No requests at all are a miss.

        `latency` is from a percentile (0 to 100) to seconds.
        """
        if requests == 0:
            return ["no requests were made"]
        missed, most = [], f"more than {100 * self.errors:g} %"
        if failures / requests > self.errors:
            missed.append(f"errors: {failures} of {requests} failed, {most}")
        for rank, limit in self.latencies:
            found = latency(rank)
            if not found <= limit:
                missed.append(f"p{rank:g}: {1e3 * found:.3g} ms, more than {1e3 * limit:g} ms")
        return missed
