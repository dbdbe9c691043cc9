"""A tree ensemble as flat, validated arrays: what every tree-walking engine starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.errors import ModelError

MAX_FEATURES = 1 << 20
"""More than any ranker has; keeps a hostile file from asking for memory by the number."""

TREES_AT_ONCE = 64
"""How many trees are made or checked at once: enough for NumPy, little in memory."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose leaves are summed, in a form that an engine can trust.

    All comparisons of the ONNX operators are reduced to one: a split sends a
    row *left* if `x[feature] < threshold` in float32, or, on a categorical
    split, if `x[feature]` equals a member of the split's set. NaN goes left
    where `missing_left` is set, else right, on both kinds.

    The nodes of a tree are contiguous and breadth-first: a root comes first,
    then its two children, left before right, then theirs. So a right child
    follows its left sibling, every child comes after its parent, and no walk
    can loop. Making a Forest checks all of this; an array that breaks the rules
    never reaches an engine.

    With T trees, N nodes, F features and C set members in all (arrays are
    C-contiguous, or one value broadcast):

    Attributes:
        num_features: F.
        roots: int32 [T]; ascending, in the order in which the leaves are summed.
        feature: int32 [N]; -1 on a leaf.
        threshold: float32 [N]; on a leaf its value, which is finite; 0 on a
            categorical split; never NaN.
        left: int32 [N]; the left child, which the right one follows; -1 on a
            leaf.
        missing_left: bool [N]; False on a leaf.
        members_begin: int32 [N]; where the split's set begins in `members`.
        members_end: int32 [N]; where it ends; equal to `members_begin` on any
            node that is not a categorical split.
        members: float32 [C]; each set ascending, without repetition or NaN.
        floored: bool [F]; features that are rounded down before any split reads
            them, which is how a category code is read.
        base: float32; added to the sum of the leaves, after it; finite.
        logistic: whether the score is `1 / (1 + exp(-sum))` instead of the sum.
        cover: float32 [N]; how many training rows, or how much weight of them,
            came to each node; finite, not negative; None if that isn't known.
            Explanations need it, scores don't.

    Raises:
        ModelError: the arrays are not such trees; names the first wrong node.
    """

    num_features: int
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    members_begin: NDArray[np.int32]
    members_end: NDArray[np.int32]
    members: NDArray[np.float32]
    floored: NDArray[np.bool_]
    base: np.float32
    logistic: bool
    cover: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Checks every rule above."""
        self._check_arrays()
        self._check_trees()
        self._check_splits()

    def _check_arrays(self) -> None:
        """Types and lengths."""
        if not 0 < self.num_features <= MAX_FEATURES:
            raise ModelError(f"num_features: {self.num_features}; expected 1..{MAX_FEATURES}")
        nodes = len(self.feature)
        for name, dtype, length in (
            ("roots", np.int32, None),
            ("feature", np.int32, nodes),
            ("threshold", np.float32, nodes),
            ("left", np.int32, nodes),
            ("missing_left", np.bool_, nodes),
            ("members_begin", np.int32, nodes),
            ("members_end", np.int32, nodes),
            ("members", np.float32, None),
            ("floored", np.bool_, self.num_features),
            ("cover", np.float32, nodes),
        ):
            array = getattr(self, name)
            if array is None and name == "cover":
                continue
            # One value for all nodes need not be written out.
            strided = not array.flags.c_contiguous and array.strides != (0,)
            if array.dtype != dtype or array.ndim != 1 or strided:
                raise ModelError(f"{name}: expected a contiguous vector of {np.dtype(dtype)}")
            if length is not None and len(array) != length:
                raise ModelError(f"{name}: {len(array)} values; expected {length}")
        if not np.isfinite(self.base):
            raise ModelError(f"base: {self.base}; expected a finite number")

    def _check_trees(self) -> None:
        """In breadth-first order which nodes are leaves says all about a tree's shape.

        The k-th split of a tree (from 0) has its children at 2k + 1 and 2k + 2
        from the root. If these lie behind the split itself, and a tree with k
        splits has 2k + 1 nodes, then every node but the root has one parent.
        """
        nodes = len(self.feature)
        ends = np.append(self.roots[1:], nodes)
        if not len(self.roots) or self.roots[0] != 0 or not (self.roots < ends).all():
            raise ModelError("roots: expected 0 and then, ascending, nodes")
        for first in range(0, len(ends), TREES_AT_ONCE):
            self._check_shapes(first, ends[first : first + TREES_AT_ONCE])

    def _check_shapes(self, first: int, ends: NDArray[np.int32]) -> None:
        roots = self.roots[first : first + len(ends)]
        begin, end = int(roots[0]), int(ends[-1])
        split = self.feature[begin:end] >= 0
        before: NDArray[np.int64] = np.cumsum(split) - split  # splits before each node
        splits = np.add.reduceat(split, roots - begin, dtype=np.int64)
        sizes = ends - roots
        wrong = np.flatnonzero(sizes != 2 * splits + 1)
        if len(wrong):
            tree = int(wrong[0])
            has = f"{splits[tree]} splits among {sizes[tree]} nodes"
            raise ModelError(f"tree {first + tree}: {has}")
        child = 2 * before + 1 + np.repeat(roots - 2 * before[roots - begin], sizes)
        left = self.left[begin:end]
        backwards = child <= np.arange(begin, end)
        _refuse(split & ((left != child) | backwards), "wrong left child", begin)
        _refuse(~split & (left != -1), "a leaf has a child", begin)

    def _check_splits(self) -> None:
        """Features, thresholds and sets."""
        split = self.feature >= 0
        _refuse((self.feature < -1) | (self.feature >= self.num_features), "no such feature")
        _refuse(np.isnan(self.threshold), "the threshold is NaN")
        _refuse(~split & ~np.isfinite(self.threshold), "the leaf's value isn't finite")
        _refuse(~split & self.missing_left, "a leaf has a missing direction")
        if self.cover is not None:
            sound = np.isfinite(self.cover) & (self.cover >= 0)
            _refuse(~sound, "the cover is negative or isn't finite")

        begin, end, members = self.members_begin, self.members_end, self.members
        is_set = begin != end
        _refuse((begin < 0) | (begin > end) | (end > len(members)), "the set is out of range")
        _refuse(is_set & ~split, "a leaf has a set")
        _refuse(is_set & (self.threshold != 0), "a categorical split has a threshold")
        if np.isnan(members).any():
            raise ModelError("members: a member is NaN")
        # Where a set doesn't ascend, its end lies beyond the next descent after its begin.
        descents = np.append(np.flatnonzero(members[1:] <= members[:-1]) + 1, len(members))
        next_descent = descents[np.searchsorted(descents, begin[is_set] + 1)]
        _refuse(_spread(is_set, end[is_set] > next_descent), "the set doesn't ascend")


def _refuse(bad: NDArray[np.bool_], problem: str, begin: int = 0) -> None:
    if bad.any():
        raise ModelError(f"node {begin + int(bad.argmax())}: {problem}")


def _spread(mask: NDArray[np.bool_], values: NDArray[np.bool_]) -> NDArray[np.bool_]:
    spread = np.zeros(len(mask), np.bool_)
    spread[mask] = values
    return spread
