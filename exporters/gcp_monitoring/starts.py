"""Since when counters and histograms count."""

from __future__ import annotations

from collections.abc import Sequence

from ranker.metrics.families import Distribution, Family, Sample
from ranker.metrics.metric import Kind, Metric

_LATER = 0.002


class Starts:
    """Tells when each series began, which is later than the server if it began anew.

    What was counted of a version ends some minutes after that is no longer served, and begins
    again if it comes back. Cloud Monitoring takes no value below the last one with the same start,
    and a new start has to be a millisecond after the last point at least (`TimeInterval` in the
    reference of its API, version 3).

    Args:
        first: when the server began to count, in seconds since 1970.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._known: dict[tuple[str, tuple[str, ...]], tuple[float, float]] = {}

    def update(self, families: Sequence[Family], written: float) -> None:
        """Looks which series have begun anew.

        Args:
            families: every metric now.
            written: the time of the points that were written last; 0: none were.
        """
        anew = max(self._first, written + _LATER)
        # Of those that are not there any more, the next value begins from zero.
        known = dict.fromkeys(self._known, (anew, 0.0))
        for family in families:
            if family.metric.kind in (Kind.COUNTER, Kind.HISTOGRAM):
                for sample in family.samples:
                    key = family.metric.name, sample.labels
                    start, before = self._known.get(key, (self._first, 0.0))
                    value = _counted(sample)
                    known[key] = (start if value >= before else anew, value)
        self._known = known

    def of(self, metric: Metric, sample: Sample) -> float:
        """When a series of the last update began, in seconds since 1970."""
        return self._known[metric.name, sample.labels][0]


def _counted(sample: Sample) -> float:
    value = sample.value
    return value.count if isinstance(value, Distribution) else value
