"""What a run found, and whether it is the server's doing or the generator's own."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

MAX_SECONDS = 60.0
"""Latencies above it count as it."""
BUSY = 0.85
"""The part of the time, spent running or waiting for a core, beyond which the generator says
that it was the bottleneck."""
LATE = 0.5
"""And the part of the median latency beyond which its own lateness is most of what it sees."""

# Of the thread that reads it: nanoseconds on a core, and ready but waiting for one.
_SCHEDSTAT = Path("/proc/thread-self/schedstat")


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
        cpu: CPU time of the generator, in cores.
        running: the part of the time that its loop was on a core.
        starved: the part of the time that its loop was ready to run and waited
            for a core; 0 where the system does not say.
    """

    offered: float
    seconds: float = 0.0
    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    latency: Latencies = field(default_factory=Latencies)
    late: Latencies = field(default_factory=Latencies)
    cpu: float = 0.0
    running: float = 0.0
    starved: float = 0.0

    def count(self, status: str, seconds: float) -> None:
        """Counts an answer of this gRPC status, after so long."""
        self.sent += 1
        self.latency.record(seconds)
        if status != "OK":
            self.failed[status] += 1

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
        if self.running + self.starved > BUSY:
            return (
                f"the generator ran for {self.running:.0%} of the time and waited for a core "
                f"for {self.starved:.0%}"
            )
        late, median = self.late.percentile(50), self.latency.percentile(50)
        if late > LATE * median:
            return f"half of the requests left {1e3 * late:.2g} ms late or later"
        return ""


class Effort:
    """What a run costs the generator, from construction on. Used on the loop's thread."""

    def __init__(self) -> None:
        self._began = self._now()

    def record(self, found: Measurement) -> None:
        """Takes it down, with the time that has passed."""
        found.seconds, *spent = (
            now - then for now, then in zip(self._now(), self._began, strict=True)
        )
        found.cpu, found.running, found.starved = (part / found.seconds for part in spent)

    def _now(self) -> tuple[float, float, float, float]:
        waited = int(_SCHEDSTAT.read_text().split()[1]) / 1e9 if _SCHEDSTAT.exists() else 0.0
        return time.perf_counter(), time.process_time(), time.thread_time(), waited
