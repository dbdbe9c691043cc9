"""What exporters publish: families of samples, and where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ranker.metrics.metric import Metric


@dataclass(frozen=True)
class Exemplar:
    """One observation, remembered together with the trace that it belongs to.

    Attributes:
        trace_id: W3C trace id, 32 lower-case hexadecimal digits.
        value: what was observed, in the metric's unit.
        time: when, in seconds since the Unix epoch.
    """

    trace_id: str
    value: float
    time: float


@dataclass(frozen=True)
class Distribution:
    """The value of a histogram.

    With B bounds in the metric's `buckets`:

    Attributes:
        counts: observations per bucket, B + 1 of them, not cumulative.
        sum: of all observations. An observation that is being recorded may be
            in `counts` and not yet in `sum`.
        exemplars: the latest per bucket, B + 1 of them; empty if the metric has none.
    """

    counts: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar | None, ...] = ()

    @property
    def count(self) -> int:
        """The number of observations: always that of the buckets together."""
        return sum(self.counts)

    def since(self, before: Distribution) -> Distribution:
        """What has been observed after an earlier reading of the same histogram."""
        pairs = zip(self.counts, before.counts, strict=True)
        counts = tuple(max(0, now - then) for now, then in pairs)
        return Distribution(counts, max(0.0, self.sum - before.sum))

    def quantile(self, bounds: Sequence[float], share: float) -> float | None:
        """The value that a share of the observations does not exceed, as far as buckets tell.

        Within a bucket observations count as evenly spread, as in PromQL's `histogram_quantile`.

        Args:
            bounds: the metric's `buckets`.
            share: from 0 to 1.

        Returns:
            None if nothing was observed; the last bound if it lies beyond that.
        """
        wanted = share * self.count
        low, below = 0.0, 0
        for high, count in zip(bounds, self.counts, strict=False):
            if count and below + count >= wanted:
                return low + (high - low) * (wanted - below) / count
            low, below = high, below + count
        return low if self.count else None


def merged(distributions: Iterable[Distribution]) -> Distribution | None:
    """All observations of some histograms of one metric; None if there is no histogram."""
    found = list(distributions)
    if not found:
        return None
    columns = zip(*(each.counts for each in found), strict=True)
    return Distribution(tuple(map(sum, columns)), sum(each.sum for each in found))


@dataclass(frozen=True)
class Sample:
    """One value of a metric.

    Attributes:
        labels: the labels' values, in the order of `Metric.labels`.
        value: a `Distribution` for a histogram, else a number.
        since: when a counter or histogram began to count, in seconds since the Unix epoch; 0: with
            its source.
    """

    labels: tuple[str, ...]
    value: float | Distribution
    since: float = 0.0


@dataclass(frozen=True)
class Family:
    """A metric and its samples at one moment."""

    metric: Metric
    samples: tuple[Sample, ...]


class Source(Protocol):
    """Where an exporter reads.

    Counters and histograms start from zero at `started`, or at their `Sample.since`, and never go
    backwards, however often processes are replaced. Those of a version that is no longer
    served end, and start from zero if it comes back.
    """

    started: float
    """When counting began, in seconds since the Unix epoch."""

    def snapshot(self) -> Sequence[Family]:
        """Every metric now, zeros included. May be called from any thread."""
