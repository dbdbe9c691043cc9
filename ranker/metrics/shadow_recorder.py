"""What a worker says of a model and its shadow, added up where exporters read it."""

from __future__ import annotations

import math
from bisect import bisect_left

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.metric import Metric


class ShadowRecorder:
    """Records how one worker finds a model and its shadow to agree. Made by a `ModelRecorder`.

    Once the model has another shadow nothing more is recorded: its cells are the other's.

    Args:
        aggregates: where to record.
        worker: which worker this process is.
        number: which of the layout's models the model is.
        version: the shadow's.
    """

    def __init__(self, aggregates: Aggregates, worker: int, number: int, version: str) -> None:
        self._aggregates = aggregates
        self._cells = aggregates.slots[worker].cells
        self._number, self._version = number, version
        places = aggregates.layout.plan.cells
        self._lists = places[catalogue.SHADOW_LISTS][number]
        reasons = [reason for (reason,) in catalogue.SHADOW_DROPPED_REASON.values]
        first = number * len(reasons)
        dropped = places[catalogue.SHADOW_DROPPED][first : first + len(reasons)]
        self._dropped = dict(zip(reasons, dropped, strict=True))

    def dropped(self, reason: str) -> None:
        """A list was not scored, for one of `catalogue.SHADOW_DROPPED_REASON`."""
        if self._is_current():
            self._cells[self._dropped[reason]] += 1.0

    def compared(self, overlap: float, tau: float, shift: float) -> None:
        """A list was scored.

        Args:
            overlap: of the best candidates.
            tau: the rank correlation; NaN: there is none.
            shift: of the scores; NaN: it can't be said.
        """
        if not self._is_current():
            return
        self._cells[self._lists] += 1.0
        self._observe(catalogue.SHADOW_OVERLAP, overlap)
        # A sum must not go down, as one of correlations may.
        self._observe(catalogue.SHADOW_DISTANCE, 1.0 - tau)
        self._observe(catalogue.SHADOW_SHIFT, shift)

    def _is_current(self) -> bool:
        return self._aggregates.has_shadow(self._number, self._version)

    def _observe(self, metric: Metric, value: float) -> None:
        if not math.isfinite(value):
            return
        begin = self._aggregates.layout.plan.cells[metric][self._number]
        self._cells[begin + bisect_left(metric.buckets, value)] += 1.0
        self._cells[begin + len(metric.buckets) + 1] += value
