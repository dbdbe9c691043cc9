"""Shapley values the slow and plain way: leaf by leaf, in float64, without quadrature.

A leaf's value counts in a coalition of features if the row agrees with every
split on the way that is on one of them; for each other feature it counts by the
leaf's share of the cover. So a leaf is a product of one factor per feature, and
what coalitions of each size make of it are the coefficients of a polynomial. All
of these are sums of positive numbers, which float64 keeps.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from ranker.forest import Forest


def exact_shapley(forest: Forest, row: NDArray[np.float32]) -> NDArray[np.float64]:
    """The contributions of one row and, last, the bias; for numeric splits."""
    result = np.zeros(forest.num_features + 1)
    result[-1] = float(forest.base)
    for root in forest.roots:
        _walk(forest, int(root), row, {}, result)
    return result


def _walk(
    forest: Forest,
    node: int,
    row: NDArray[np.float32],
    factors: dict[int, tuple[bool, float]],
    result: NDArray[np.float64],
) -> None:
    feature, left = int(forest.feature[node]), int(forest.left[node])
    if feature < 0:
        _add_leaf(float(forest.threshold[node]), factors, result)
        return
    assert forest.cover is not None
    x = row[feature]
    on_left = bool(forest.missing_left[node]) if np.isnan(x) else bool(x < forest.threshold[node])
    covers = forest.cover[left : left + 2].astype(np.float64)
    agrees, share = factors.get(feature, (True, 1.0))
    for side, taken in ((0, on_left), (1, not on_left)):
        below = {**factors, feature: (agrees and taken, share * covers[side] / covers.sum())}
        _walk(forest, left + side, row, below, result)


def _add_leaf(
    value: float, factors: dict[int, tuple[bool, float]], result: NDArray[np.float64]
) -> None:
    count = len(factors)
    polynomials = [np.array([share, float(agrees)]) for agrees, share in factors.values()]
    before, after = [np.ones(1)], [np.ones(1)]
    for i in range(count):
        before.append(np.convolve(before[-1], polynomials[i]))
        after.append(np.convolve(after[-1], polynomials[count - 1 - i]))
    weights = [1 / (count * comb(count - 1, size)) for size in range(count)]
    for i, (feature, (agrees, share)) in enumerate(factors.items()):
        others = np.convolve(before[i], after[count - 1 - i])
        result[feature] += value * (agrees - share) * float(others @ weights)
    result[-1] += value * float(before[-1][0])
