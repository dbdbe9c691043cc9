"""Shapley values by their definition: sums over all coalitions of features, few as they must be."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from ranker.forest import Forest


def by_definition(forest: Forest, row: NDArray[np.float32]) -> list[float]:
    """Shapley values as the sum over all coalitions of features; the bias last."""
    count = forest.num_features
    values = {
        coalition: sum(_expected(forest, int(root), row, coalition) for root in forest.roots)
        for size in range(count + 1)
        for coalition in itertools.combinations(range(count), size)
    }
    result = []
    for feature in range(count):
        total = 0.0
        for coalition, value in values.items():
            if feature not in coalition:
                size = len(coalition)
                weight = math.factorial(size) * math.factorial(count - size - 1)
                joined = tuple(sorted((*coalition, feature)))
                total += weight / math.factorial(count) * (values[joined] - value)
        result.append(total)
    return [*result, values[()] + float(forest.base)]


def _expected(forest: Forest, node: int, row: NDArray[np.float32], known: tuple[int, ...]) -> float:
    """A tree's value where only some features are known: the others follow the covers."""
    feature, left = int(forest.feature[node]), int(forest.left[node])
    if feature < 0:
        return float(forest.threshold[node])
    if feature in known:
        return _expected(forest, left + (not _goes_left(forest, node, row)), row, known)
    assert forest.cover is not None
    cover_left, cover_right = map(float, forest.cover[left : left + 2])
    both = cover_left + cover_right
    share = cover_left / both if both else 0.5
    on_left, on_right = (_expected(forest, child, row, known) for child in (left, left + 1))
    return share * on_left + (1 - share) * on_right


def _goes_left(forest: Forest, node: int, row: NDArray[np.float32]) -> bool:
    x = row[forest.feature[node]]
    if forest.floored[forest.feature[node]]:
        x = np.floor(x)
    if np.isnan(x):
        return bool(forest.missing_left[node])
    begin, end = forest.members_begin[node], forest.members_end[node]
    if begin != end:
        return x in forest.members[begin:end].tolist()
    return bool(x < forest.threshold[node])
