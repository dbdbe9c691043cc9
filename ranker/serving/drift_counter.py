"""Counts how many candidates fall into each bin of each feature of one model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Rows, Scores
from ranker.metrics.drift_log import SCORES, CountedFeature, ModelKey, label_of
from ranker.model.features import ColumnPlan
from ranker.model.histogram import MOST_FEATURES, Bins, Histogram
from ranker.serving.served_model import ServedModel

_CELLS = 1 << 15
_FEATURES = 1 << 8
"""So many comparisons, and so many features, in one step: a tenth of a millisecond."""


class DriftCounter:
    """Counts the features that one model reads, and its scores if it has a reference.

    Args:
        served: the model.

    Attributes:
        key: tells it from other models.
        lists: how many have been counted since the last `take`.
    """

    def __init__(self, served: ServedModel) -> None:
        model = served.model
        self.key = ModelKey(model.name, model.version, model.digest)
        self.lists = 0
        self._bins = watched_bins(served)
        self._reference = _reference(served)
        names = model.feature_names
        self._labels = {
            column: label_of(names[column] if names else f"f{column}", column)
            for column in self._bins
            if column != SCORES
        }
        self._columns = np.array(list(self._labels), np.intp)
        each = [bins.borders() for bins in self._bins.values()]
        features, most = len(each), max((len(borders) for borders, _ in each), default=0)
        self._borders = np.full((most, 1, features), np.nan, np.float32)  # NaN: nothing is above
        self._bin_of = np.zeros((features, most + 1), np.intp)
        for place, (borders, bin_of) in enumerate(each):
            self._borders[: len(borders), 0, place] = borders
            self._bin_of[place, : len(bin_of)] = bin_of
        self._missing = max((bins.count for bins in self._bins.values()), default=0)
        self._at_once = max(1, min(_FEATURES, _CELLS // (16 * max(1, most))))
        self._clear()

    def count(
        self,
        candidates: Rows,
        plan: ColumnPlan | None,
        context: NDArray[np.float32],
        scores: Scores,
    ) -> Iterator[None]:
        """Counts some candidates of one list, a step with each `next`.

        Args:
            candidates: float32 [n, c], as they were sent; a few of them.
            plan: where these columns and the context go; None: they are the model's own.
            context: float32 values that they share.
            scores: float32 [n].
        """
        rows = candidates if plan is None else plan.rows(candidates, context)
        values = rows[:, self._columns]
        if SCORES in self._bins:
            values = np.concatenate((values, scores[:, None]), axis=1)
        for begin in range(0, values.shape[1], self._at_once):
            if begin:
                yield
            self._count(values, slice(begin, begin + self._at_once))
        self.lists += 1

    def take(self) -> Iterator[CountedFeature]:
        """Hands out what was counted, and begins anew."""
        counted = self._counts, self._low, self._high, self.lists
        self._clear()
        return self._counted(*counted)

    def _clear(self) -> None:
        features = len(self._bins)
        self._counts = np.zeros((features, self._missing + 1), np.int64)
        self._low, self._high = np.full((2, features), np.nan, np.float32)
        self.lists = 0

    def _count(self, values: NDArray[np.float32], part: slice) -> None:
        values = values[:, part]
        features, width = values.shape[1], self._counts.shape[1]
        interval = (values >= self._borders[:, :, part]).sum(0, dtype=np.intp)
        found = self._bin_of[part][np.arange(features), interval]
        found[np.isnan(values)] = self._missing
        found += width * np.arange(features)
        counted = np.bincount(found.ravel(), minlength=width * features)
        self._counts[part] += counted.reshape(features, width)
        self._low[part] = np.fmin(self._low[part], np.fmin.reduce(values))
        self._high[part] = np.fmax(self._high[part], np.fmax.reduce(values))

    def _counted(
        self,
        counts: NDArray[np.int64],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        lists: int,
    ) -> Iterator[CountedFeature]:
        for place, (column, bins) in enumerate(self._bins.items()):
            reference = self._reference.get(column)
            in_bins = counts[place, : bins.count].tolist()
            yield CountedFeature(
                column=column,
                name=self._labels.get(column, ""),
                reference=(*reference.counts, reference.missing) if reference else None,
                counts=(*in_bins, int(counts[place, self._missing])),
                lists=lists,
                only=float(low[place]) if low[place] == high[place] else None,
                ordered=column != SCORES and len(bins.cuts) > 0,
            )


def watched_bins(served: ServedModel) -> dict[int, Bins]:
    """The bins of the features that are counted, by their positions; `SCORES` comes last.

    Without a reference features have a bin below all thresholds, one between, and one above; where
    thresholds aren't known, one bin.
    """
    if reference := _reference(served):
        return {column: each.bins for column, each in reference.items()}
    if served.ranges is None:
        return {
            column: Bins() for column in range(min(MOST_FEATURES, served.features.num_features))
        }
    read = np.flatnonzero(~np.isnan(served.ranges[:, 0]))[:MOST_FEATURES]
    return {
        int(column): Bins(tuple(sorted({each for each in ends if math.isfinite(each)})))
        for column, ends in zip(read, served.ranges[read].tolist(), strict=True)
    }


def _reference(served: ServedModel) -> Mapping[int, Histogram]:
    reference = served.model.metadata.reference
    return {} if reference is None else {**reference.features, SCORES: reference.scores}
