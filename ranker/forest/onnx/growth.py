"""Grows a `NodeTable` into a `Forest`: one comparison, checked trees, breadth-first order."""

from __future__ import annotations

import numpy as np

from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest.forest import TREES_AT_ONCE, Forest
from ranker.forest.onnx.covers import sound
from ranker.forest.onnx.graph import Surroundings
from ranker.forest.onnx.node_table import Bools, Float32s, Int32s, Mode, NodeTable

MAX_DEPTH = 4096
"""Splits on a path. No trainer comes near, and onnxruntime 1.32's recursive loader overflows its
stack, which ends the process, somewhere between 10,000 and 30,000."""

THIN = 64
"""Nodes per level below which a walk takes longer for its levels than for its nodes."""

_THROUGH = np.isin(np.arange(len(Mode)), (Mode.LEQ, Mode.GT))
"""By mode: whether the threshold itself goes with what is below it."""

_TRUE_IS_RIGHT = np.isin(np.arange(len(Mode)), (Mode.GTE, Mode.GT, Mode.NEQ))
"""By mode: whether the true child is the right one."""


def grow(table: NodeTable, around: Surroundings) -> Forest:
    """Makes a Forest of the nodes that an operator listed.

    Args:
        table: the nodes; is taken apart, so that a column is freed when it has
            been grown.
        around: what else the model says.

    Raises:
        ModelError: the nodes are not trees; names the node.
        UnsupportedModelError: a comparison that a Forest can't express.
    """
    _merge_equalities(table)
    # The specification sends NaN where the flag says; onnxruntime finds NaN != t to be true.
    unclear = np.flatnonzero((table.mode == Mode.NEQ) & ~table.missing_true)
    if len(unclear):
        raise UnsupportedModelError(
            f"{table.label(int(unclear[0]))}: BRANCH_NEQ sends NaN to the false side in ONNX's "
            "specification and to the true side in onnxruntime"
        )
    order, sizes, set_owner = _order(table)
    members_begin, members_end, members = _sets(table, set_owner, len(order))
    del table.true, table.false, table.set_owner, table.set_value, table.unused

    leaf = table.mode[order] == Mode.LEAF
    feature = table.feature[order]
    feature[leaf] = -1
    del table.feature
    cover = None if table.cover is None else table.cover[order]
    table.cover = None
    missing_left = ~leaf & (table.missing_true[order] ^ _true_is_right(table, order))
    threshold = _thresholds(table, order)
    # As every split has two children and every tree one root, counting finds them.
    left = np.cumsum(~leaf, dtype=np.int32)
    left *= 2
    left += np.repeat(np.arange(-1, len(sizes) - 1, dtype=np.int32), sizes)
    left[leaf] = -1
    roots = (np.cumsum(sizes) - sizes).astype(np.int32)
    if cover is not None and not sound(cover, left, roots):
        cover = None
    return Forest(
        num_features=around.num_features,
        roots=roots,
        feature=feature,
        threshold=threshold,
        left=left,
        missing_left=missing_left,
        members_begin=members_begin,
        members_end=members_end,
        members=members,
        floored=around.floored,
        base=table.base,
        logistic=around.logistic,
        cover=cover,
    )


def _merge_equalities(table: NodeTable) -> None:
    """Makes a set of `x == t`, and one set of a chain of them.

    Converters write "x is in {a, b}" for operators without sets as a chain:
    `x == a`, else `x == b`, with one node as the true child of both. Such a chain
    becomes its first node; the others are in no tree any more.
    """
    equal = np.flatnonzero(table.mode == Mode.EQ)
    unequal = np.flatnonzero(table.mode == Mode.NEQ)
    if not len(equal) and not len(unequal):
        return
    following = table.false[equal]
    linked = (
        (table.mode[following] == Mode.EQ)
        & (table.feature[following] == table.feature[equal])
        & (table.true[following] == table.true[equal])
        & (table.missing_true[following] == table.missing_true[equal])
    )
    first = np.arange(len(table.mode))
    first[following[linked]] = equal[linked]
    merged = first != np.arange(len(first))
    for _ in range(len(equal).bit_length()):  # each round doubles how far back `first` looks
        first = first[first]
    table.refuse(merged[first], "is on a cycle")

    last = equal[~linked]
    table.false[first[last]] = table.false[last]
    table.set_owner = np.concatenate([table.set_owner, first[equal], unequal]).astype(np.int32)
    table.set_value = np.concatenate([table.set_value, table.value[equal], table.value[unequal]])
    table.unused |= merged


def _true_is_right(table: NodeTable, nodes: Int32s) -> Bools:
    """Whether a node's true child becomes its right one; meaningless on a leaf.

    All modes are reduced to "left if x < t" and "left if x is in the set". There is
    no float above infinity, and x <= inf is true of every number; so that is said as
    "right if x >= -inf".
    """
    mode = table.mode[nodes]
    swapped: Bools = _TRUE_IS_RIGHT[mode] ^ (_THROUGH[mode] & (table.value[nodes] == np.inf))
    return swapped


def _thresholds(table: NodeTable, nodes: Int32s) -> Float32s:
    """The thresholds of such splits, 0 with a set; a leaf's value."""
    mode, threshold = table.mode[nodes], table.value[nodes]
    threshold[mode != Mode.LEAF] += 0.0  # -0 becomes 0, which compares the same
    threshold[(mode == Mode.EQ) | (mode == Mode.NEQ)] = 0
    # x <= t is x < the float above t.
    through = _THROUGH[mode]
    always = through & (threshold == np.inf)
    with np.errstate(over="ignore"):  # the float above the largest is infinity, and right
        threshold[through] = np.nextafter(threshold[through], np.float32(np.inf))
    threshold[always] = -np.inf
    return threshold


def _order(table: NodeTable) -> tuple[Int32s, Int32s, Int32s]:
    """Puts the nodes in a Forest's order, and checks that they are trees.

    Returns:
        The nodes, tree after tree, each breadth-first; how many each tree has;
        and the place of each of `table.set_owner` in that order.
    """
    order = np.empty(len(table.mode) - np.count_nonzero(table.unused), np.int32)
    # What is in no tree, and rightly so, must not be met.
    place = np.where(table.unused, np.int32(0), np.int32(-1))
    sizes = []
    first = end = 0
    at_once = TREES_AT_ONCE
    while first < len(table.roots):
        roots = table.roots[first : first + at_once]
        grown, levels = _breadth_first(table, roots, order[end:], place, end)
        sizes.append(grown)
        nodes = int(grown.sum())
        first += at_once
        end += nodes
        if nodes < THIN * levels:
            at_once *= 4  # and never less again, so that few such walks do for any file
    _refuse_lost(table, place < 0)
    return order, np.concatenate(sizes), place[table.set_owner]


def _breadth_first(
    table: NodeTable, roots: Int32s, order: Int32s, place: Int32s, begin: int
) -> tuple[Int32s, int]:
    """Walks some trees at once, level by level.

    Args:
        table: the nodes.
        roots: of the trees to walk.
        order: where the nodes go.
        place: of all of the table's nodes, -1 where they have none yet; is filled.
        begin: the first tree's place.

    Returns:
        How many nodes each tree has, and the number of levels.
    """
    level, tree = roots, np.arange(len(roots), dtype=np.int32)
    levels, trees = [], []
    end = begin
    while len(level):
        levels.append(level)
        trees.append(tree)
        if len(levels) > MAX_DEPTH + 1:
            raise ModelError(f"{table.label(int(level[0]))}: more than {MAX_DEPTH} splits deep")
        # A node that is met twice has a place already, or is given another one now.
        met = place[level] >= 0
        places = np.arange(end, end + len(level), dtype=np.int32)
        place[level] = places
        met |= place[level] != places
        if met.any():
            node = level[met.argmax()]
            problem = "is a root and has a parent" if node in table.roots else "has two parents"
            raise ModelError(f"{table.label(int(node))}: {problem}")
        end += len(level)
        splits = table.mode[level] != Mode.LEAF
        level, tree = level[splits], np.repeat(tree[splits], 2)
        children = np.column_stack([table.true[level], table.false[level]])
        swapped = _true_is_right(table, level)
        children[swapped] = children[swapped, ::-1]
        level = children.ravel()
    tree = np.concatenate(trees)
    nodes = np.concatenate(levels)[np.argsort(tree, kind="stable")]
    order[: len(nodes)] = nodes
    place[nodes] = np.arange(begin, end, dtype=np.int32)
    return np.bincount(tree).astype(np.int32), len(levels)


def _refuse_lost(table: NodeTable, lost: Bools) -> None:
    """Refuses nodes that are in no tree."""
    if not lost.any():
        return
    inner = (table.mode != Mode.LEAF) & ~table.unused
    has_parent = np.zeros(len(lost), np.bool_)
    has_parent[table.true[inner]] = has_parent[table.false[inner]] = True
    is_root = np.zeros(len(lost), np.bool_)
    is_root[table.roots] = True
    table.refuse(is_root & has_parent, "is a root and has a parent")
    table.refuse(lost & ~has_parent, "no root leads to it")
    table.refuse(lost, "is on a cycle, or below one")


def _sets(table: NodeTable, owner: Int32s, nodes: int) -> tuple[Int32s, Int32s, Float32s]:
    """Each node's set as a range of one array, in the nodes' final order.

    Args:
        table: the nodes.
        owner: the place of each of `table.set_owner` in that order.
        nodes: how many there are at last.
    """
    if not len(owner):
        empty = np.broadcast_to(np.int32(0), nodes)
        return empty, empty, np.empty(0, np.float32)
    value = table.set_value + np.float32(0)  # -0 becomes 0, which compares the same
    order = np.lexsort((value, owner))
    owner, value = owner[order], value[order]
    fresh = np.ones(len(owner), np.bool_)
    fresh[1:] = (owner[1:] != owner[:-1]) | (value[1:] != value[:-1])
    end = np.cumsum(np.bincount(owner[fresh], minlength=nodes)).astype(np.int32)
    begin = np.zeros_like(end)
    begin[1:] = end[:-1]
    return begin, end, value[fresh]
