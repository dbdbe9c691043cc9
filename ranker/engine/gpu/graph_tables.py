"""A `Forest` as tables that tensor operators can walk: every split is one comparison of floats.

A row is first turned into *columns*, one float each. Splits read columns, never
features, and every split is the same: right if column >= threshold. Whatever is
special about a split is settled in its column, once per batch:

- NaN that goes left: NaN >= t is false, so the feature itself is the column.
- NaN that goes right: the feature with NaN replaced by +inf, since +inf >= t is true.
- A categorical split: one column per distinct set, 0 for left and 1 for right.

A leaf is a node that nothing leaves: its threshold is NaN and its left child
itself. So all trees of a group can take the same number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from ranker.errors import UnsupportedModelError
from ranker.forest import Forest

Int32s = NDArray[np.int32]

MAX_STEPS = 64
"""Splits on a path, for the kernel as for the graph, of which each is seven operators. Far more
than a boosted tree has."""

MAX_CODE = 1 << 16
"""The largest category code; a set is looked up in a table of all codes of its feature."""

MAX_SET_ENTRIES = 1 << 26
"""Bytes of all such tables."""

GROUP_GAIN = 0.25
"""Trees are walked apart from deeper ones if that saves this share of the steps."""


@dataclass(frozen=True, eq=False)
class SetTables:
    """The categorical splits' columns.

    A feature's value becomes a *code*: itself, if it is a whole number from 0
    to the largest member of the feature's sets; one more for any other value;
    two more for NaN. With G features that have sets and K distinct sets:

    Attributes:
        features: int64 [G].
        largest: float32 [G, 1]; each feature's largest member.
        feature_of_set: int64 [K]; an index into `features`.
        begin: int32 [K, 1]; where each set's entries begin in `goes_right`.
        goes_right: bool; one entry per set and code of its feature.
    """

    features: NDArray[np.int64]
    largest: NDArray[np.float32]
    feature_of_set: NDArray[np.int64]
    begin: Int32s
    goes_right: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Group:
    """Trees that are walked together.

    Attributes:
        roots: int32 [T]; their root nodes.
        steps: how many steps bring each of them to a leaf, at least 1.
    """

    roots: Int32s
    steps: int


@dataclass(frozen=True, eq=False)
class NodeTables:
    """A forest's nodes, and the columns that they read.

    With N nodes and T trees:

    Attributes:
        kept: int64; features that are columns as they are.
        filled: int64; features that are columns with NaN replaced by +inf; they
            come after the kept ones.
        sets: the categorical columns, after those; None if there are none.
        num_columns: of all three kinds, at least 1.
        column: int32 [N]; 0 on a leaf.
        threshold: float32 [N]; NaN on a leaf.
        left: int32 [N]; the right child is the next node; a leaf's is itself.
        value: float32 [N]; a leaf's value, 0 on a split.
        groups: all trees, each in one group.
        position: int64 [T]; where each tree stands among the groups' trees laid
            end to end.
    """

    kept: NDArray[np.int64]
    filled: NDArray[np.int64]
    sets: SetTables | None
    num_columns: int
    column: Int32s
    threshold: NDArray[np.float32]
    left: Int32s
    value: NDArray[np.float32]
    groups: tuple[Group, ...]
    position: NDArray[np.int64]


def tabulate(forest: Forest) -> NodeTables:
    """Makes the tables of a forest.

    Raises:
        UnsupportedModelError: a path of more than `MAX_STEPS` splits, or a
            category that is no whole number from 0 to `MAX_CODE`.
    """
    leaf = forest.feature < 0
    categorical = forest.members_begin != forest.members_end
    numeric = ~leaf & ~categorical
    is_kept = numeric & forest.missing_left
    is_filled = numeric & ~forest.missing_left
    kept = np.unique(forest.feature[is_kept]).astype(np.int64)
    filled = np.unique(forest.feature[is_filled]).astype(np.int64)
    if not len(kept) and not len(filled):
        kept = np.zeros(1, np.int64)  # leaves read column 0, so there must be one
    sets, set_of_node = _tabulate_sets(forest, np.flatnonzero(categorical))

    column = np.zeros(len(leaf), np.int32)
    column[is_kept] = np.searchsorted(kept, forest.feature[is_kept])
    column[is_filled] = len(kept) + np.searchsorted(filled, forest.feature[is_filled])
    column[categorical] = len(kept) + len(filled) + set_of_node
    threshold = np.where(categorical, np.float32(1), forest.threshold)
    groups, position = _group(forest)
    return NodeTables(
        kept=kept,
        filled=filled,
        sets=sets,
        num_columns=len(kept) + len(filled) + (0 if sets is None else len(sets.begin)),
        column=column,
        threshold=np.where(leaf, np.float32(np.nan), threshold),
        left=np.where(leaf, np.arange(len(leaf), dtype=np.int32), forest.left),
        value=np.where(leaf, forest.threshold, np.float32(0)),
        groups=groups,
        position=position,
    )


def _group(forest: Forest) -> tuple[tuple[Group, ...], NDArray[np.int64]]:
    """Groups the trees by depth; returns the groups and each tree's position."""
    depths = tree_depths(forest)
    if depths.max() > MAX_STEPS:
        tree = int(depths.argmax())
        raise UnsupportedModelError(
            f"tree {tree}: a path of {depths[tree]} splits; a GPU scores at most {MAX_STEPS}"
        )
    order = np.argsort(-depths, kind="stable")
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    groups = tuple(
        Group(forest.roots[trees], max(1, int(depths[trees[0]])))
        for trees in _cut(order, depths[order])
    )
    return groups, position


def _cut(trees: NDArray[np.int64], depths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cuts trees in descending order of depth wherever that saves `GROUP_GAIN` of the steps."""
    saved = (len(trees) - np.arange(len(trees))) * (depths[0] - depths)
    at = int(saved.argmax())
    if saved[at] <= GROUP_GAIN * len(trees) * depths[0]:
        return [trees]
    return _cut(trees[:at], depths[:at]) + _cut(trees[at:], depths[at:])


def tree_depths(forest: Forest) -> NDArray[np.int64]:
    """The splits on each tree's longest path."""
    depths = np.zeros(len(forest.roots), np.int64)
    nodes, trees = forest.roots, np.arange(len(forest.roots))
    for depth in count(1):
        split = forest.feature[nodes] >= 0
        nodes, trees = nodes[split], trees[split]
        if not len(nodes):
            break
        depths[trees] = depth
        nodes = np.concatenate([forest.left[nodes], forest.left[nodes] + 1])
        trees = np.concatenate([trees, trees])
    return depths


def _tabulate_sets(
    forest: Forest, nodes: NDArray[np.int64]
) -> tuple[SetTables | None, NDArray[np.int64]]:
    """The distinct sets of some categorical nodes, and which of them each node has."""
    if not len(nodes):
        return None, nodes
    number: dict[tuple[int, bool, bytes], int] = {}
    set_of_node = np.empty(len(nodes), np.int64)
    for i, node in enumerate(nodes):
        members = forest.members[forest.members_begin[node] : forest.members_end[node]]
        key = int(forest.feature[node]), bool(forest.missing_left[node]), members.tobytes()
        set_of_node[i] = number.setdefault(key, len(number))

    owner = np.array([feature for feature, _, _ in number], np.int64)
    features, feature_of_set = np.unique(owner, return_inverse=True)
    largest = np.zeros(len(features), np.int64)
    for (feature, _, raw), index in zip(number, feature_of_set, strict=True):
        members = np.frombuffer(raw, np.float32)
        if members[0] < 0 or members[-1] > MAX_CODE or (members != np.floor(members)).any():
            raise UnsupportedModelError(
                f"a categorical split of feature {feature}: "
                f"expected members that are whole numbers from 0 to {MAX_CODE}"
            )
        largest[index] = max(largest[index], int(members[-1]))

    sizes = largest[feature_of_set] + 3
    ends = np.cumsum(sizes)
    if ends[-1] > MAX_SET_ENTRIES:
        raise UnsupportedModelError(
            f"{len(sizes)} distinct categorical splits need tables of {ends[-1]} entries; "
            f"expected at most {MAX_SET_ENTRIES}"
        )
    goes_right = np.ones(int(ends[-1]), np.bool_)
    for (_, missing_left, raw), end, size in zip(number, ends, sizes, strict=True):
        goes_right[end - size + np.frombuffer(raw, np.float32).astype(np.int64)] = False
        goes_right[end - 1] = not missing_left
    return SetTables(
        features=features,
        largest=largest.astype(np.float32)[:, None],
        feature_of_set=feature_of_set.astype(np.int64),
        begin=(ends - sizes).astype(np.int32)[:, None],
        goes_right=goes_right,
    ), set_of_node
