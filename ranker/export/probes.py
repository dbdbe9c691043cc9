"""Rows that find a wrong split: made from the model's own thresholds and sets.

Half of them are steered. Such a row takes the way from a tree's root to one of
its splits, every value on the way on the very edge of what its splits let
through, and meets that split with a value on it, next to it, or missing. With up
to some 680 splits in a model each of them is met so; of more, a random sample.
The other half draw each value independently from all the thresholds, their
neighbours, other numbers and NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranker.export.xgboost_model import MAX_CATEGORY, Tree, XGBoostModel

ROWS = 4096
"""How many rows are made, unless there are very many features."""

Rows = NDArray[np.float32]

_MAX_CELLS = 1 << 24
_VALUES = 512  # thresholds of a feature, or members of its sets, that rows are drawn from
_HUGE = np.finfo(np.float32).max
_TINY = np.finfo(np.float32).smallest_subnormal
_INFINITY = np.float32(np.inf)
_MISSING_RATES = (0.0, 0.0, 0.1, 0.5, 0.95)


def probe_rows(model: XGBoostModel) -> Rows:
    """Finite rows for a model, the same ones each time; all values of the first one are missing.

    Returns:
        float32 [n, num_features], n at least 64.
    """
    random = np.random.default_rng(0)
    count = max(64, min(ROWS, _MAX_CELLS // model.num_features))
    rows = _drawn(model, count, random)
    _steer(rows[count // 2 :], model.trees, random)
    return np.clip(rows, -_HUGE, _HUGE)  # a threshold may be infinite, a row for predict may not


def with_infinities(rows: Rows) -> Rows:
    """A copy with a fifth of the values infinite, of either sign."""
    random = np.random.default_rng(1)
    infinite = random.random(rows.shape) < 0.2
    return np.where(infinite, np.copysign(_INFINITY, random.normal(size=rows.shape)), rows).astype(
        np.float32
    )


def _drawn(model: XGBoostModel, count: int, random: np.random.Generator) -> Rows:
    rows = random.standard_normal((count, model.num_features), np.float32)
    for feature, thresholds in _thresholds(model.trees).items():
        rows[:, feature] = random.choice(_around(thresholds, random), count)
    codes: dict[int, list[Rows]] = {}
    for tree in model.trees:
        for node, members in tree.members.items():
            codes.setdefault(int(tree.feature[node]), []).append(members)
    for feature, sets in codes.items():
        rows[:, feature] = random.choice(_in_and_out(np.concatenate(sets), random), count)
    missing = random.choice(_MISSING_RATES, (count, 1))
    missing[0] = 1
    rows[random.random(rows.shape, np.float32) < missing] = np.nan
    return rows


def _thresholds(trees: tuple[Tree, ...]) -> dict[int, Rows]:
    """All thresholds, by feature."""
    splits = [np.setdiff1d(np.flatnonzero(tree.left >= 0), list(tree.members)) for tree in trees]
    features = np.concatenate([t.feature[s] for t, s in zip(trees, splits, strict=True)])
    values = np.concatenate([t.value[s] for t, s in zip(trees, splits, strict=True)])
    order = np.argsort(features)
    used, begins = np.unique(features[order], return_index=True)
    groups = np.split(values[order], begins[1:]) if len(used) else []
    return dict(zip(used.tolist(), groups, strict=True))


def _around(thresholds: Rows, random: np.random.Generator) -> Rows:
    some = np.clip(random.permutation(np.unique(thresholds))[:_VALUES], -_HUGE, _HUGE)
    share = random.random(_VALUES, np.float32)
    between = share * random.choice(some, _VALUES) + (1 - share) * random.choice(some, _VALUES)
    neighbours = (np.nextafter(some, -_INFINITY), np.nextafter(some, _INFINITY))
    extremes = np.array((0.0, -0.0, _TINY, -_TINY, _HUGE, -_HUGE), np.float32)
    return np.concatenate((some, *neighbours, between, extremes))


def _in_and_out(members: Rows, random: np.random.Generator) -> Rows:
    some = random.permutation(np.unique(members))[:_VALUES]
    beyond = int(members.max()) + 1
    anywhere = random.integers(0, beyond + 1, _VALUES)
    odd = (0, -0.0, -0.5, -1, -_HUGE, beyond, beyond + 0.5, MAX_CATEGORY - 1, MAX_CATEGORY, _HUGE)
    parts = (some, some + 0.5, some - 1, anywhere, odd)
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def _steer(rows: Rows, trees: tuple[Tree, ...], random: np.random.Generator) -> None:
    """Overwrites some values of each row, three rows for each split."""
    sizes = np.array([len(tree.left) for tree in trees])
    begins = sizes.cumsum() - sizes
    splits = np.flatnonzero(np.concatenate([tree.left for tree in trees]) >= 0)
    for i, split in enumerate(random.permutation(splits)[: len(rows) // 3].tolist()):
        index = int(np.searchsorted(begins, split, side="right")) - 1
        tree, node = trees[index], split - int(begins[index])
        three = rows[3 * i : 3 * i + 3]
        for feature, value in _way(tree, node).items():
            three[:, feature] = value
        three[:, tree.feature[node]] = _edges(tree, node)


def _edges(tree: Tree, node: int) -> tuple[np.float32, np.float32, np.float32]:
    """A value that goes right, one that just so goes left, and none."""
    if node in tree.members:
        members = tree.members[node]
        return members[-1], _smallest_code(members), np.float32(np.nan)
    threshold = tree.value[node]
    return threshold, np.nextafter(threshold, -_INFINITY), np.float32(np.nan)


def _way(tree: Tree, node: int) -> dict[int, np.float32]:
    """Values, by feature, with which a row comes from the root to a node."""
    low: dict[int, np.float32] = {}
    high: dict[int, np.float32] = {}
    inside: dict[int, Rows] = {}
    outside: dict[int, Rows] = {}
    while node:
        parent = int(np.flatnonzero((tree.left == node) | (tree.right == node))[0])
        feature, value = int(tree.feature[parent]), tree.value[parent]
        right = tree.right[parent] == node
        if parent in tree.members:
            members = tree.members[parent]
            if right:
                inside[feature] = np.intersect1d(inside.get(feature, members), members)
            else:
                outside[feature] = np.union1d(outside.get(feature, members), members)
        elif right:
            low[feature] = max(low.get(feature, value), value)
        else:
            high[feature] = min(high.get(feature, value), value)
        node = parent
    way = {feature: np.nextafter(value, -_INFINITY) for feature, value in high.items()} | low
    for feature in inside.keys() | outside.keys():
        barred = outside.get(feature, np.empty(0, np.float32))
        allowed = np.setdiff1d(inside.get(feature, barred), barred)
        way[feature] = allowed[0] if allowed.size else _smallest_code(barred)
    return way


def _smallest_code(barred: Rows) -> np.float32:
    codes: Rows = np.arange(len(barred) + 1, dtype=np.float32)
    return np.float32(np.setdiff1d(codes, barred)[0])
