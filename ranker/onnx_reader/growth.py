"""Grows a `NodeTable` into a `Forest`: one comparison, checked trees, breadth-first order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest import Forest
from ranker.onnx_reader.graph import Surroundings
from ranker.onnx_reader.table import Bools, Float32s, Int32s, Mode, NodeTable

MAX_DEPTH = 4096
"""Splits on a path. No trainer comes near, and onnxruntime 1.32's recursive loader overflows its
stack, which ends the process, somewhere between 10,000 and 30,000."""


def grow(table: NodeTable, around: Surroundings) -> Forest:
    """Makes a Forest of the nodes that an operator listed.

    Raises:
        ModelError: the nodes are not trees; names the node.
        UnsupportedModelError: a comparison that a Forest can't express.
    """
    table = _merge_equalities(table)
    left, right, threshold, missing_left = _reduce_modes(table)
    order, roots = _breadth_first(table, left, right)

    place = np.full(len(table.mode), -1, np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    split = table.mode[order] != Mode.LEAF
    members_begin, members_end, members = _sets(table, place, len(order))
    return Forest(
        num_features=around.num_features,
        roots=roots,
        feature=np.where(split, table.feature[order], np.int32(-1)),
        threshold=threshold[order],
        left=np.where(split, place[left[order]], np.int32(-1)),
        right=np.where(split, place[right[order]], np.int32(-1)),
        missing_left=split & missing_left[order],
        members_begin=members_begin,
        members_end=members_end,
        members=members,
        floored=around.floored,
        base=table.base,
        logistic=around.logistic,
    )


def _merge_equalities(table: NodeTable) -> NodeTable:
    """Makes a set of `x == t`, and one set of a chain of them.

    Converters write "x is in {a, b}" for operators without sets as a chain:
    `x == a`, else `x == b`, with one node as the true child of both. Such a chain
    becomes its first node; the others are in no tree any more.
    """
    equal = np.flatnonzero(table.mode == Mode.EQ)
    unequal = np.flatnonzero(table.mode == Mode.NEQ)
    if not len(equal) and not len(unequal):
        return table
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
    false = table.false.copy()
    false[first[last]] = table.false[last]
    return replace(
        table,
        false=false,
        set_owner=np.concatenate([table.set_owner, first[equal], unequal]).astype(np.int32),
        set_value=np.concatenate([table.set_value, table.value[equal], table.value[unequal]]),
        unused=table.unused | merged,
    )


def _reduce_modes(table: NodeTable) -> tuple[Int32s, Int32s, Float32s, Bools]:
    """Reduces all modes to "left if x < t" and "left if x is in the set".

    Returns:
        Left child, right child, threshold (a leaf's value, 0 with a set) and
        whether NaN goes left, per node.
    """
    mode, true_is_right = table.mode, np.isin(table.mode, (Mode.GTE, Mode.GT, Mode.NEQ))
    # The specification sends NaN where the flag says; onnxruntime finds NaN != t to be true.
    unclear = np.flatnonzero((mode == Mode.NEQ) & ~table.missing_true)
    if len(unclear):
        raise UnsupportedModelError(
            f"{table.label(int(unclear[0]))}: BRANCH_NEQ sends NaN to the false side in ONNX's "
            "specification and to the true side in onnxruntime"
        )
    threshold = table.value.copy()
    split = mode != Mode.LEAF
    threshold[split] += 0.0  # -0 becomes 0, which compares the same
    threshold[(mode == Mode.EQ) | (mode == Mode.NEQ)] = 0
    # x <= t is x < the float above t. There is none above infinity: x <= inf is true of every
    # number, which is said as "not x < -inf".
    through = (mode == Mode.LEQ) | (mode == Mode.GT)
    always = through & (threshold == np.inf)
    with np.errstate(over="ignore"):  # the float above the largest is infinity, and right
        threshold[through] = np.nextafter(threshold[through], np.float32(np.inf))
    threshold[always] = -np.inf
    true_is_right ^= always
    return (
        np.where(true_is_right, table.false, table.true),
        np.where(true_is_right, table.true, table.false),
        threshold,
        table.missing_true ^ true_is_right,
    )


def _breadth_first(table: NodeTable, left: Int32s, right: Int32s) -> tuple[Int32s, Int32s]:
    """Walks all trees at once, level by level, and checks that they are trees.

    Returns:
        The nodes, tree after tree, each breadth-first; and where each tree begins.
    """
    inner = (table.mode != Mode.LEAF) & ~table.unused
    edges = np.concatenate([left[inner], right[inner], table.roots])
    parents = np.bincount(edges, minlength=len(inner))
    is_root = np.zeros(len(inner), np.bool_)
    is_root[table.roots] = True
    table.refuse(is_root & (parents > 1), "is a root and has a parent")
    table.refuse(parents > (~table.unused), "has two parents")

    # No node has two parents, and the roots have none: the walk meets no node twice.
    level, tree = table.roots, np.arange(len(table.roots), dtype=np.int32)
    levels, trees = [], []
    while len(level):
        levels.append(level)
        trees.append(tree)
        if len(levels) > MAX_DEPTH + 1:
            raise ModelError(f"{table.label(int(level[0]))}: more than {MAX_DEPTH} splits deep")
        splits = inner[level]
        level, tree = level[splits], np.repeat(tree[splits], 2)
        level = np.column_stack([left[level], right[level]]).ravel()
    tree = np.concatenate(trees)
    order = np.concatenate(levels)[np.argsort(tree, kind="stable")]

    lost = ~table.unused
    lost[order] = False
    table.refuse(lost & (parents == 0), "no root leads to it")
    table.refuse(lost, "is on a cycle, or below one")
    sizes = np.bincount(tree)
    return order, (np.cumsum(sizes) - sizes).astype(np.int32)


def _sets(table: NodeTable, place: Int32s, nodes: int) -> tuple[Int32s, Int32s, Float32s]:
    """Each node's set as a range of one array, in the nodes' final order.

    Args:
        table: the nodes.
        place: the final index of each of the table's nodes.
        nodes: how many there are at last.
    """
    owner = place[table.set_owner]
    value = table.set_value + np.float32(0)  # -0 becomes 0, which compares the same
    order = np.lexsort((value, owner))
    owner, value = owner[order], value[order]
    fresh = np.ones(len(owner), np.bool_)
    fresh[1:] = (owner[1:] != owner[:-1]) | (value[1:] != value[:-1])
    end = np.cumsum(np.bincount(owner[fresh], minlength=nodes)).astype(np.int32)
    begin = np.zeros_like(end)
    begin[1:] = end[:-1]
    return begin, end, value[fresh]
