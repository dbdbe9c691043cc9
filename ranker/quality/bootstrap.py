"""How sure a mean over queries is: the bootstrap, with the same queries for every column.

Queries are drawn with replacement, as many as there are, again and again; how the
means of these samples spread is how the mean itself would, had other queries been
asked (Efron, 1979). Both models are measured on the same draw, so that what is
common to them, such as hard queries, does not blur their difference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[float], None]
"""Told the share that is done, from 0 to 1."""

_AT_ONCE = 1 << 20
"""Counts that are held at once."""


def resampled_means(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    resamples: int,
    seed: int,
    progress: Progress = lambda _: None,
) -> NDArray[np.float64]:
    """The weighted means of samples of queries.

    Args:
        values: [Q, columns].
        weights: [Q], how much each query counts.
        resamples: how many samples.
        seed: of the draws; the same one gives the same means.
        progress: is told how far it is.

    Returns:
        float64 [resamples, columns].
    """
    queries = len(values)
    random = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    weighted = np.column_stack([values * weights[:, None], weights])
    at_once = max(1, _AT_ONCE // queries)
    for begin in range(0, resamples, at_once):
        count = min(at_once, resamples - begin)
        drawn = random.integers(queries, size=(count, queries))
        drawn += np.arange(count)[:, None] * queries
        counts = np.bincount(drawn.ravel(), minlength=count * queries).reshape(count, queries)
        sums = counts.astype(np.float64) @ weighted
        with np.errstate(invalid="ignore"):  # a sample of queries that don't count: no mean
            means[begin : begin + count] = sums[:, :-1] / sums[:, -1:]
        progress((begin + count) / resamples)
    return means


def interval(means: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The middle part of the means that holds `confidence` of them (the percentile method).

    NaN, which is no mean, is left out; the ends are NaN if there is nothing else.
    """
    outside = (1 - confidence) / 2
    means = means[~np.isnan(means)]
    if not len(means):
        return float("nan"), float("nan")
    low, high = np.quantile(means, [outside, 1 - outside])
    return float(low), float(high)
