"""Means of metrics over queries, with intervals, of one ranker or of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ranker.quality.bootstrap import Progress, interval, resampled_means
from ranker.quality.evaluation import Estimate, MetricResult

Values = NDArray[np.float64]


def results(
    values: Mapping[str, Sequence[Values]],
    weights: Values,
    resamples: int,
    confidence: float,
    seed: int,
    progress: Progress = lambda _: None,
) -> tuple[MetricResult, ...]:
    """Sums metrics up; a model that is compared with itself differs by 0, to the last bit.

    Args:
        values: by the metric's name, of the model and of what it is compared with, or of the
            model alone: each query's value, [Q].
        weights: [Q]; how much each query counts.
        resamples: how many bootstrap samples the intervals are made of.
        confidence: of the intervals, as a share.
        seed: of the draws.
        progress: is told how far it is.
    """
    # The difference is a column of its own: means of equal columns, of which one is taken from
    # the other, may differ in the last bit by where BLAS has them.
    columns = {
        name: [*of, *([of[0] - of[1]] if len(of) > 1 else [])] for name, of in values.items()
    }
    matrix = np.column_stack([column for of in columns.values() for column in of])
    samples = iter(resampled_means(matrix, weights, resamples, seed, progress).T)

    def estimate(column: Values) -> Estimate:
        return Estimate(_mean(column, weights), *interval(next(samples), confidence))

    found = []
    for name, of in columns.items():
        model, *compared = (estimate(column) for column in of)
        if not compared:
            found.append(MetricResult(name, model))
            continue
        baseline, difference = compared
        change = of[2]
        found.append(
            MetricResult(
                name,
                model,
                baseline,
                difference,
                better=int((change > 0).sum()),
                worse=int((change < 0).sum()),
                equal=int((change == 0).sum()),
            )
        )
    return tuple(found)


def _mean(column: Values, weights: Values) -> float:
    """The weighted mean; NaN if no query counts."""
    total = weights.sum()
    return float((column * weights).sum() / total) if total else float("nan")
