"""Finds the highest rate at which a server still meets its objective.

The rate doubles until a step misses, then the gap between the last rate that met the objective
and the first that did not is halved, on a logarithmic scale, until it is narrow. A step in which
the load could not send what it was to send counts as a miss, and the result says so. A miss is
measured again before it is believed: other work can make an answer late, and none makes it early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.harness.h2load import Calls
from benchmarks.harness.report import Report
from benchmarks.harness.scrape import ServerShare

RESOLUTION = 1.08
"""The gap, as a ratio, at which the search ends."""
SENT = 0.8
"""The part of the calls that a load must have sent in time."""


class Step(NamedTuple):
    """One rate that was tried: the calls, the server's share, and what of the objective it missed.

    `missed` has a line for each term.
    """

    rate: float
    calls: Calls
    share: ServerShare
    missed: list[str]

    @property
    def bottleneck(self) -> str:
        """Why this says nothing of the server; empty if it does."""
        late = self.calls.rate < SENT * self.rate
        return f"only {self.calls.rate:.0f}/s of {self.rate:.0f} were sent" if late else ""


class Result(NamedTuple):
    """What a search found: its steps, in order of time, and the highest rate that will do.

    The rate is 0 if none did. `limited_by` is what ended the search, if it wasn't the server.
    """

    steps: list[Step]
    rate: float
    limited_by: str


def search(measure: Callable[[float], Step], start: float, limit: float) -> Result:
    """Searches from one rate, which should be easy, to another, which is the highest to try."""
    steps: list[Step] = []
    met, missed, limited_by = 0.0, None, ""
    rate = start
    while True:
        for _ in range(2):
            step = measure(rate)
            steps.append(step)
            if not step.missed and not step.bottleneck:
                met = rate
                break
        else:
            missed, limited_by = rate, step.bottleneck
        if missed is None:
            if rate >= limit:
                return Result(steps, met, f"{limit:g}/s was the most to try")
            rate = min(2 * rate, limit)
        elif met == 0.0 or missed / met <= RESOLUTION:
            return Result(steps, met, limited_by)
        else:
            rate = (met * missed) ** 0.5


def report_on(result: Result, slo: str, report: Report) -> str:
    """A table with a row per step, by rate, and a chart of latency over the rate, as SVG."""
    from benchmarks.harness import chart  # slow to import

    client = ("offered/s", "sent/s", "p50 ms", "p99 ms", "p99.9 ms", "failed")
    server = ("engine busy", "server, cores", "requests a batch")
    table = report.table(*client, *server, "missed")
    series: dict[str, list[tuple[float, float]]] = {"p50": [], "p99": []}
    for rate, calls, share, missed in sorted(result.steps, key=lambda step: step.rate):
        p50, p99, p999 = (1e3 * calls.percentile(each) for each in (50, 99, 99.9))
        own = (share.engine_utilization, share.cpu, share.batch_requests)
        table.row(rate, calls.rate, p50, p99, p999, share.failures, *own, "; ".join(missed))
        series["p50"].append((rate, p50))
        series["p99"].append((rate, p99))
    title = f"Latency, and the highest rate that meets {slo}"
    return chart.lines(title, ("requests per second", "milliseconds"), series, result.rate)
