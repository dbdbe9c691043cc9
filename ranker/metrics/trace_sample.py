"""Which requests are traced, and as which span."""

from __future__ import annotations

import math
import random

from ranker.metrics.trace import parse_traceparent


class TraceSample:
    """Chooses the requests that a worker has traced.

    Where the caller sends a trace context, its flag decides: all of a trace is recorded, or nothing
    of it. Of the other requests a share is chosen at random, and each begins a trace.

    Args:
        rate: that share.

    Attributes:
        left: so many requests without a context end before the next one that begins a trace.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.left = self._draw()

    def begin(self) -> str:
        """A span that begins a trace, as a `traceparent`; draws when the next one is due."""
        self.left = self._draw()
        return _traceparent(f"{random.getrandbits(128) or 1:032x}")

    def _draw(self) -> float:
        """How many are left out before the next: as if a coin were tossed for each."""
        if self._rate <= 0.0:
            return math.inf
        if self._rate >= 1.0:
            return 0.0
        return math.log(1.0 - random.random()) // math.log1p(-self._rate)


def span_in(traceparent: str) -> str | None:
    """A new span of the caller's trace, as a `traceparent`.

    Args:
        traceparent: what the caller sent.

    Returns:
        None if that is not valid, or its caller does not record the trace.
    """
    trace = parse_traceparent(traceparent)
    return _traceparent(trace.trace_id) if trace is not None and trace.sampled else None


def _traceparent(trace_id: str) -> str:
    return f"00-{trace_id}-{random.getrandbits(64) or 1:016x}-01"
