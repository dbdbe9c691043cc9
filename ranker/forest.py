"""A tree ensemble as flat, validated arrays: what every tree-walking engine starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose leaves are summed, in a form that an engine can trust.

    All comparisons of the ONNX operators are reduced to one: a split sends a
    row *left* if `x[feature] < threshold` in float32, or, on a categorical
    split, if `x[feature]` is a member of the split's set. NaN goes left where
    `missing_left` is set, else right, on both kinds.

    The nodes of a tree are contiguous and breadth-first: a root comes first
    and every child after its parent, so that no walk can loop. All indices
    are within bounds; no threshold and no leaf value is NaN.

    With T trees, N nodes, F features and C set members in all:

    Attributes:
        num_features: F.
        roots: int32 [T]; in the order in which the leaves are summed.
        feature: int32 [N]; -1 on a leaf.
        threshold: float32 [N]; on a leaf its value, 0 on a categorical split.
        left: int32 [N]; -1 on a leaf.
        right: int32 [N]; -1 on a leaf.
        missing_left: bool [N]; False on a leaf.
        members_begin: int32 [N]; where the split's set begins in `members`.
        members_end: int32 [N]; where it ends; equal to `members_begin` on any
            node that is not a categorical split.
        members: float32 [C]; each set sorted, without repetition.
        floored: bool [F]; features that are rounded down before any split reads
            them, which is how a category code is read.
        base: float32; added to the sum of the leaves, after it.
        logistic: whether the score is `1 / (1 + exp(-sum))` instead of the sum.
    """

    num_features: int
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    members_begin: NDArray[np.int32]
    members_end: NDArray[np.int32]
    members: NDArray[np.float32]
    floored: NDArray[np.bool_]
    base: np.float32
    logistic: bool
