"""A `Forest` laid out for the vector kernel: byte codes instead of floats, tiles instead of nodes.

Two ideas make the kernel fast, and both are laid down here.

*Codes.* Rows are coded once per batch, a byte per column, and every split is one
comparison of bytes; `columns.py` says how.

*Tiles.* The top of every tree is padded to a perfect binary tree of the same
depth, stored in heap order without pointers: the children of node i are 2i and
2i + 1 (Asadi et al., TKDE 2014). One depth for the whole forest makes all tiles
alike, and the kernel's loops constant. What lies deeper is not padded. It is
kept as explicit nodes for rows that are walked one by one, and as *steps* for
rows that are walked together: the place of a row is a byte, at first the exit
of the tile; a step sends the rows at one place that go right to a new place,
and leaves those that go left. As places are bytes, a forest has steps only if
no tree needs more than 256 of them, and only if that is worth its memory (`ROOM`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.engine.simd.columns import NEVER_RIGHT, Columns, indices
from ranker.forest import Forest

MAX_DEPTH = 8
"""The deepest tile: its exits are numbered by a byte."""

MAX_PLACES = 256
"""A tree's exits and what its steps add to them are numbered by a byte, too."""

PADDED_DEPTH = 6
"""No tree is so sparse that a tile of 64 exits would not be faster than steps."""

ROOM = 1 << 20
ROOM_PER_LEAF = 16
"""A table of all tiles, or of all places, has at most so many entries in all, or per leaf of the
forest if that is more: trees that are much smaller than the largest are not padded to its size."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The arrays that the kernel is made from; all C-contiguous.

    A *column* is one byte per row. A *cut* codes one slice of one feature's
    thresholds into two columns (NaN left, NaN right), a *set* one categorical
    split into one column (0: member, 1: not). With S cuts, K sets, T trees and
    D deep nodes:

    Attributes:
        num_features: F, the width of a row.
        num_columns: how many columns cuts and sets write.
        floored: uint8 [F]; whether values are rounded down first.
        cut_feature: int32 [S].
        cut_end: int32 [S]; where the cut's thresholds end; they begin where
            the previous cut's end.
        cut_columns: int32 [S, 2]; the column in which NaN is 0, and that in
            which it is 255.
        thresholds: float32; ascending within a cut, at most 255 each.
        set_feature: int32 [K].
        set_end: int32 [K]; where the set's members end.
        set_column: int32 [K].
        set_missing: uint8 [K]; the code of NaN.
        members: float32; ascending within a set.
        depth: d, the levels of every tile.
        split_column: int32 [T, 2**d]; a tile in heap order; entry 0 is unused.
        split_code: uint8, likewise; a row goes right if its code is greater.
        exits: float32 [T, 2**d], left to right; the leaf's value, or, if there
            are deep nodes, the bits of an int32 index of one.
        rest: int32 [T]; the most steps from a tile's exit to a leaf.
        deep_column: int32 [D]; D is 0 if no tree is deeper than its tile.
        deep_code: uint8 [D]; 255 on a leaf.
        deep_left: int32 [D]; the left child, the right one follows it; on a
            leaf, the leaf itself.
        deep_value: float32 [D]; a leaf's value.
        step_column: int32 [S]; all trees' steps, a tree's from the top down.
        step_code: uint8 [S].
        step_from: uint8 [S]; the place whose rows the step looks at.
        step_to: uint8 [S]; where it sends those that go right.
        level_end: int32 [L]; where each level of a tree ends among the steps;
            steps of one level look at different places.
        tree_levels: int32 [T]; where each tree ends among the levels; empty if
            the forest has no steps.
        places: float32 [T, P]; the leaf's value at each place after all steps;
            P is a power of two from 64 to 256; empty like `tree_levels`.
        base: added to the sum of the leaves.
    """

    num_features: int
    num_columns: int
    floored: NDArray[np.uint8]
    cut_feature: NDArray[np.int32]
    cut_end: NDArray[np.int32]
    cut_columns: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    set_feature: NDArray[np.int32]
    set_end: NDArray[np.int32]
    set_column: NDArray[np.int32]
    set_missing: NDArray[np.uint8]
    members: NDArray[np.float32]
    depth: int
    split_column: NDArray[np.int32]
    split_code: NDArray[np.uint8]
    exits: NDArray[np.float32]
    rest: NDArray[np.int32]
    deep_column: NDArray[np.int32]
    deep_code: NDArray[np.uint8]
    deep_left: NDArray[np.int32]
    deep_value: NDArray[np.float32]
    step_column: NDArray[np.int32]
    step_code: NDArray[np.uint8]
    step_from: NDArray[np.uint8]
    step_to: NDArray[np.uint8]
    level_end: NDArray[np.int32]
    tree_levels: NDArray[np.int32]
    places: NDArray[np.float32]
    base: float


def lay_out(forest: Forest) -> Layout:
    """Lays a forest out for the kernel.

    Args:
        forest: any valid forest; `logistic` is the caller's business.
    """
    columns = Columns.of(forest)
    depth_of_node = _depths(forest)
    depth = _tile_depth(forest, depth_of_node)
    rest = np.maximum(np.maximum.reduceat(depth_of_node, forest.roots) - depth, 0)
    deep = _Deep.of(forest, columns, depth_of_node, depth if rest.any() else None)

    splits, ends = _tiles(forest, depth)
    split_column, split_code = columns.column[splits], columns.code[splits]
    del splits  # these arrays are as large as the model
    steps = _Steps.of(forest, columns, depth_of_node, depth, ends)
    exits = deep.index[ends].view(np.float32) if rest.any() else forest.threshold[ends]
    del depth_of_node, ends
    return Layout(
        num_features=forest.num_features,
        num_columns=columns.count,
        floored=forest.floored.astype(np.uint8),
        cut_feature=columns.cut_feature,
        cut_end=columns.cut_end,
        cut_columns=columns.cut_columns,
        thresholds=columns.thresholds,
        set_feature=columns.set_feature,
        set_end=columns.set_end,
        set_column=columns.set_column,
        set_missing=columns.set_missing,
        members=columns.members,
        depth=depth,
        split_column=split_column,
        split_code=split_code,
        exits=exits,
        rest=rest,
        deep_column=deep.column,
        deep_code=deep.code,
        deep_left=deep.left,
        deep_value=deep.value,
        step_column=steps.column,
        step_code=steps.code,
        step_from=steps.place,
        step_to=steps.to,
        level_end=steps.level_end,
        tree_levels=steps.tree_levels,
        places=steps.places,
        base=float(forest.base),
    )


def _tiles(forest: Forest, depth: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The nodes at each tile's places in heap order, and at its exits; both [T, 2**depth].

    A leaf stands at all the places below it as well.
    """
    level = forest.roots[:, None]
    levels = [np.zeros_like(level)]
    for _ in range(depth):
        levels.append(level)
        inner = forest.feature[level] >= 0
        left = np.where(inner, forest.left[level], level)
        level = np.stack([left, left + inner], axis=2).reshape(len(level), -1)
    return np.concatenate(levels, axis=1), level


@dataclass(frozen=True, eq=False)
class _Deep:
    """The nodes below the tiles, siblings side by side; `index` [N]: of each forest node."""

    index: NDArray[np.int32]
    column: NDArray[np.int32]
    code: NDArray[np.uint8]
    left: NDArray[np.int32]
    value: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        forest: Forest,
        columns: Columns,
        depth: NDArray[np.int32],
        tile_depth: int | None,
    ) -> _Deep:
        if tile_depth is None:
            none = np.empty(0, np.int32)
            return cls(none, none, np.empty(0, np.uint8), none, np.empty(0, np.float32))
        inner = forest.feature >= 0
        exits = indices((depth == tile_depth) | (~inner & (depth < tile_depth)))
        parents = indices(inner & (depth >= tile_depth))
        pairs = np.stack([forest.left[parents], forest.left[parents] + 1], axis=1).reshape(-1)
        nodes = np.concatenate([exits, pairs])
        nodes = nodes[np.argsort(_tree_of(forest, nodes), kind="stable")]  # trees together
        index = np.full(len(inner), -1, np.int32)
        index[nodes] = np.arange(len(nodes))
        splits = inner[nodes]
        return cls(
            index=index,
            column=np.where(splits, columns.column[nodes], 0).astype(np.int32),
            code=np.where(splits, columns.code[nodes], NEVER_RIGHT).astype(np.uint8),
            left=np.where(splits, index[forest.left[nodes]], index[nodes]).astype(np.int32),
            value=np.where(splits, 0, forest.threshold[nodes]).astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class _Steps:
    """What lies below the tiles once more, for rows that are walked together."""

    column: NDArray[np.int32]
    code: NDArray[np.uint8]
    place: NDArray[np.uint8]
    to: NDArray[np.uint8]
    level_end: NDArray[np.int32]
    tree_levels: NDArray[np.int32]
    places: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        forest: Forest,
        columns: Columns,
        depth: NDArray[np.int32],
        tile_depth: int,
        exits: NDArray[np.int32],
    ) -> _Steps:
        """Makes the steps of a forest whose tiles end at the nodes `exits` [T, 2**depth]."""
        nodes = indices((forest.feature >= 0) & (depth >= tile_depth))
        tree = _tree_of(forest, nodes)
        per_tree = np.bincount(tree, minlength=len(exits))
        needed = exits.shape[1] + int(per_tree.max())
        size = _places(forest, needed)
        if len(nodes) == 0 or not size:
            none = np.empty(0, np.int32)
            bytes_ = np.empty(0, np.uint8)
            return cls(none, bytes_, bytes_, bytes_, none, none, np.empty(0, np.float32))
        begins = np.cumsum(per_tree) - per_tree
        to = exits.shape[1] + np.arange(len(nodes)) - begins[tree]

        place = np.zeros(len(depth), np.int32)
        place[exits] = np.arange(exits.shape[1])
        for level in range(tile_depth, int(depth.max())):
            at_level = depth[nodes] == level
            parents = nodes[at_level]
            place[forest.left[parents]] = place[parents]
            place[forest.left[parents] + 1] = to[at_level]

        places = np.zeros((len(exits), size), np.float32)
        places[:, : exits.shape[1]] = forest.threshold[exits]
        leaves = indices((forest.feature < 0) & (depth > tile_depth))
        places[_tree_of(forest, leaves), place[leaves]] = forest.threshold[leaves]

        level_begins = np.flatnonzero(
            np.append(True, (np.diff(tree) != 0) | (np.diff(depth[nodes]) != 0))
        )
        levels_per_tree = np.bincount(tree[level_begins], minlength=len(exits))
        return cls(
            column=columns.column[nodes],
            code=columns.code[nodes],
            place=place[nodes].astype(np.uint8),
            to=to.astype(np.uint8),
            level_end=np.append(level_begins[1:], len(nodes)).astype(np.int32),
            tree_levels=np.cumsum(levels_per_tree).astype(np.int32),
            places=places,
        )


def _tree_of(forest: Forest, nodes: NDArray[np.int32]) -> NDArray[np.int32]:
    return (np.searchsorted(forest.roots, nodes, side="right") - 1).astype(np.int32)


def _depths(forest: Forest) -> NDArray[np.int32]:
    """The depth of each node [N]."""
    depth = np.zeros(len(forest.feature), np.int32)
    level = forest.roots
    below = 0
    while len(level):
        depth[level] = below
        splits = level[forest.feature[level] >= 0]
        level = np.concatenate([forest.left[splits], forest.left[splits] + 1])
        below += 1
    return depth


def _fits(forest: Forest, size: int) -> bool:
    """Whether a table of so many entries per tree is worth its memory; `ROOM` says why."""
    leaves = int(np.count_nonzero(forest.feature < 0))
    return size * len(forest.roots) <= max(ROOM, ROOM_PER_LEAF * leaves)


def _places(forest: Forest, needed: int) -> int:
    """The places of each tree if one needs so many: a power of two; 0 if there can't be as many."""
    size = max(64, 1 << (needed - 1).bit_length())
    return size if size <= MAX_PLACES and _fits(forest, size) else 0


def _tile_depth(forest: Forest, depth: NDArray[np.int32]) -> int:
    """The depth of all tiles: beyond `PADDED_DEPTH` only while levels are a quarter full.

    It is less than that where it must be for the tiles to fit, or for the steps
    to have places enough.
    """
    splits = forest.feature >= 0
    per_level = np.bincount(depth[splits], minlength=MAX_DEPTH + 1)
    tile_depth = 0
    while tile_depth < MAX_DEPTH and per_level[tile_depth] > 0:
        full = len(forest.roots) << tile_depth
        if tile_depth >= PADDED_DEPTH and 4 * per_level[tile_depth] < full:
            break
        if not _fits(forest, 2 << tile_depth):
            break
        tile_depth += 1
    for shallower in range(tile_depth, 3, -1):
        below = np.add.reduceat(splits & (depth >= shallower), forest.roots, dtype=np.int32)
        if _places(forest, int(below.max()) + (1 << shallower)):
            return shallower
    return tile_depth
