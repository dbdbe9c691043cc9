"""ONNX's two tree ensemble operators, read into one table of nodes.

`TreeEnsembleRegressor` (ai.onnx.ml 1 to 5) lists splits and leaves together,
named by tree and node id. `TreeEnsemble` (ai.onnx.ml 5) lists splits and leaves
apart, named by position. Sources: the operators' specifications in ONNX
(`docs/Operators-ml.md`), and for what they leave open, what onnxruntime does.

What is read here is well-formed in itself (lengths, ids, types, no NaN); that
the nodes make trees is `ranker.forest.forest`'s to find out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest.onnx.attributes import UNKNOWN_MODE, Attributes
from ranker.forest.onnx.lists import Lists
from ranker.forest.onnx.node_table import (
    Bools,
    Float32s,
    Int32s,
    Int64s,
    Mode,
    NodeTable,
    Number,
    refuse,
)

_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_POST_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def read_trees(
    ensemble: NodeProto,
    lists: dict[int, Lists],
    num_features: int,
    leaf_covers: Float32s | None,
) -> NodeTable:
    """Reads a `TreeEnsemble` or `TreeEnsembleRegressor` operator.

    Args:
        ensemble: the operator.
        lists: its attributes' long lists, by their places among the attributes; is emptied.
        num_features: the number of columns.
        leaf_covers: of a `TreeEnsemble`'s leaves, if the file holds them.

    Raises:
        ModelError: the operator is broken; names the node or the attribute.
        UnsupportedModelError: its scores are not one float32 sum of leaves.
    """
    attributes = Attributes(ensemble, lists)
    if ensemble.op_type == "TreeEnsemble":
        table = _read_tree_ensemble(attributes, leaf_covers)
    else:
        table = _read_regressor(attributes)
    attributes.finish()

    split = table.mode != Mode.LEAF
    table.refuse(
        split & ((table.feature < 0) | (table.feature >= num_features)),
        f"reads a feature outside 0..{num_features - 1}",
    )
    table.refuse(split & np.isnan(table.value), "the threshold is NaN")
    table.refuse(~split & ~np.isfinite(table.value), "the leaf is NaN or infinite")
    if not np.isfinite(table.base):
        raise ModelError("base_values: NaN or infinite")
    return table


def _read_tree_ensemble(attributes: Attributes, leaf_covers: Float32s | None) -> NodeTable:
    """`TreeEnsemble`: the table's first nodes are its splits, the rest its leaves."""
    _expect_plain_sum(
        _name(_AGGREGATES, attributes.integer("aggregate_function", 1)),
        _name(_POST_TRANSFORMS, attributes.integer("post_transform", 0)),
        attributes.integer("n_targets", 0),
    )
    split_mode = attributes.tensor("nodes_modes", np.uint8)
    splits = len(split_mode)
    threshold = attributes.tensor("nodes_splits", np.float32, splits)
    leaf_value = attributes.tensor("leaf_weights", np.float32)
    leaves = len(leaf_value)
    cover = attributes.hitrates(splits)
    if cover is not None and leaf_covers is not None and leaf_covers.shape == (leaves,):
        cover = np.concatenate([cover, leaf_covers])
    else:
        cover = None

    def label(node: int) -> str:
        return f"node {node}" if node < splits else f"leaf {node - splits}"

    refuse(split_mode > Mode.MEMBER, label, "unknown mode")
    targets = attributes.ids("leaf_targetids", leaves)
    refuse(targets != 0, lambda leaf: f"leaf {leaf}", "leaf_targetids is not 0, the only target")
    del targets

    def children(side: str) -> tuple[Int32s, Bools]:
        ids = attributes.ids(f"nodes_{side}nodeids", splits)
        is_leaf = attributes.flags(f"nodes_{side}leafs", splits)
        outside = (ids < 0) | (ids >= np.where(is_leaf, np.int32(leaves), np.int32(splits)))
        refuse(outside, label, f"nodes_{side}nodeids is out of range")
        ids[is_leaf] += splits
        return ids, is_leaf

    true, true_is_leaf = children("true")
    false, _ = children("false")
    roots = attributes.integers("tree_roots")
    outside = (roots < 0) | (roots >= splits)
    refuse(outside, lambda tree: f"tree {tree}", "tree_roots is out of range")

    is_set = split_mode == Mode.MEMBER
    members = attributes.tensor("membership_values", np.float32, required=bool(is_set.any()))
    set_owner, set_value = _split_sets(members, np.flatnonzero(is_set).astype(np.int32), label)

    def with_leaves(of_splits: NDArray[Number], of_leaves: object = 0) -> NDArray[Number]:
        both = np.empty(splits + leaves, of_splits.dtype)
        both[:splits], both[splits:] = of_splits, of_leaves
        return both

    mode = with_leaves(split_mode, Mode.LEAF)
    value = with_leaves(np.where(is_set, np.float32(0), threshold), leaf_value)
    unused = np.zeros(splits + leaves, np.bool_)
    # The operator has no tree of one leaf; a root whose children are one and the same leaf
    # stands for it. Here that root becomes the leaf.
    lone = roots[true_is_leaf[roots] & (true[roots] == false[roots])]
    mode[lone] = Mode.LEAF
    value[lone] = value[true[lone]]
    unused[true[lone]] = True

    return NodeTable(
        mode=mode,
        feature=with_leaves(attributes.ids("nodes_featureids", splits)),
        value=value,
        true=with_leaves(true),
        false=with_leaves(false),
        missing_true=with_leaves(attributes.missing_true(splits)),
        roots=roots.astype(np.int32),
        set_owner=set_owner,
        set_value=set_value,
        unused=unused,
        label=label,
        base=np.float32(0),
        cover=cover,
    )


def _split_sets(
    members: Float32s, owners: Int32s, label: Callable[[int], str]
) -> tuple[Int32s, Float32s]:
    """Cuts `membership_values` at its NaNs; returns each member's owner and value."""
    is_end = np.isnan(members)
    ends = np.flatnonzero(is_end)
    if len(members) and not is_end[-1]:  # the NaN after the last set may be left out
        ends = np.append(ends, len(members))
    if len(ends) != len(owners):
        raise ModelError(
            f"membership_values: {len(ends)} sets for {len(owners)} nodes of mode BRANCH_MEMBER"
        )
    sizes = np.diff(ends, prepend=-1) - 1
    refuse(sizes == 0, lambda i: label(int(owners[i])), "the set is empty")
    return np.repeat(owners, sizes), members[~is_end]


def _read_regressor(attributes: Attributes) -> NodeTable:
    """`TreeEnsembleRegressor`: splits and leaves in one list, tree after tree."""
    _expect_plain_sum(
        attributes.text("aggregate_function", "SUM"),
        attributes.text("post_transform", "NONE"),
        attributes.integer("n_targets", 0),
    )
    mode = attributes.modes("nodes_modes")
    nodes = len(mode)
    tree_id = attributes.integers("nodes_treeids", nodes)
    node_id = attributes.integers("nodes_nodeids", nodes)
    cover = attributes.hitrates(nodes)

    def label(node: int) -> str:
        return f"tree {tree_id[node]} node {node_id[node]}"

    refuse(mode == UNKNOWN_MODE, label, "unknown mode")
    finder = _Finder(tree_id, node_id, label)
    is_leaf = mode == Mode.LEAF
    split = np.flatnonzero(~is_leaf)

    def children(side: str) -> Int32s:
        ids = attributes.integers(f"nodes_{side}nodeids", nodes)
        found = np.zeros(nodes, np.int32)
        found[split] = finder.find(finder.tree[split], ids[split])
        refuse(found < 0, label, f"nodes_{side}nodeids names no node of the tree")
        return found

    value = attributes.floats("nodes_values", nodes)
    value = np.where(is_leaf, _leaf_values(attributes, finder, is_leaf, label), value)
    base = attributes.floats("base_values", required=False)
    if len(base) > 1:
        raise ModelError(f"base_values: {len(base)} values for one target")
    return NodeTable(
        mode=mode,
        feature=attributes.ids("nodes_featureids", nodes),
        value=value,
        true=children("true"),
        false=children("false"),
        missing_true=attributes.missing_true(nodes),
        roots=finder.roots,
        set_owner=np.zeros(0, np.int32),
        set_value=np.zeros(0, np.float32),
        unused=np.zeros(nodes, np.bool_),
        label=label,
        base=base[0] if len(base) else np.float32(0),
        cover=cover,
    )


def _leaf_values(
    attributes: Attributes, finder: _Finder, is_leaf: Bools, label: Callable[[int], str]
) -> Float32s:
    """The `target_*` attributes as one value per node, 0 on a split."""
    weight = attributes.floats("target_weights")
    tree = attributes.integers("target_treeids", len(weight))
    node = attributes.integers("target_nodeids", len(weight))
    target = attributes.integers("target_ids", len(weight))

    def entry(i: int) -> str:
        return f"target_weights entry {i}, tree {tree[i]} node {node[i]}"

    refuse(target != 0, entry, "target_ids is not 0, the only target")
    at = finder.find(finder.tree_of(tree), node)
    refuse(at < 0, entry, "no such node")
    entries = np.bincount(at, minlength=len(is_leaf))
    refuse(is_leaf & (entries == 0), label, "the leaf has no target_weights entry")
    # onnxruntime takes a leaf's first entry and none of a split's; the specification says nothing.
    odd = np.flatnonzero(entries > is_leaf)
    if len(odd):
        raise UnsupportedModelError(f"{label(int(odd[0]))}: a split with a weight, or two weights")
    value = np.zeros(len(is_leaf), np.float32)
    value[at] = weight
    return value


class _Finder:
    """Finds the nodes of a `TreeEnsembleRegressor` by their ids.

    Attributes:
        tree: int64 [M]; each node's tree, counted from 0 in the order of the list.
        roots: int32 [T]; each tree's first node, where onnxruntime begins to walk.
    """

    _BITS = 31  # of a node id in a key; the tree's number is above them

    def __init__(self, tree_id: Int64s, node_id: Int64s, label: Callable[[int], str]) -> None:
        refuse((node_id < 0) | (node_id >> self._BITS != 0), label, "the node id is out of range")
        begins = np.ones(len(tree_id), np.bool_)
        begins[1:] = tree_id[1:] != tree_id[:-1]
        self.tree = np.cumsum(begins) - 1
        self.roots = np.flatnonzero(begins).astype(np.int32)
        self._ids = tree_id[self.roots]
        self._by_id = np.argsort(self._ids, kind="stable")
        ids = self._ids[self._by_id]
        again = self._by_id[1:][ids[1:] == ids[:-1]]
        if len(again):
            raise ModelError(f"tree {self._ids[again[0]]}: its nodes are not listed together")

        keys = (self.tree << self._BITS) | node_id
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        twice = np.zeros(len(keys), np.bool_)
        twice[self._order[1:]] = self._keys[1:] == self._keys[:-1]
        refuse(twice, label, "listed twice")

    def tree_of(self, tree_id: Int64s) -> Int64s:
        """Each tree id's number, -1 if there is no such tree."""
        return _search(self._ids[self._by_id], self._by_id, tree_id)

    def find(self, tree: Int64s, node_id: Int64s) -> Int64s:
        """The index of each node, -1 if there is no such node."""
        sound = (tree >= 0) & (node_id >= 0) & (node_id >> self._BITS == 0)
        found = _search(self._keys, self._order, (tree << self._BITS) | node_id)
        return np.where(sound, found, -1)


def _search(ascending: Int64s, index: Int64s, wanted: Int64s) -> Int64s:
    """`index` at the place of each wanted value, -1 where it does not occur."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[place] == wanted, index[place], -1)


def _expect_plain_sum(aggregate: str, post_transform: str, targets: int) -> None:
    """Refuses what is not one float32 sum of leaves."""
    if aggregate != "SUM":
        raise UnsupportedModelError(f"aggregate_function {aggregate}; only SUM is represented")
    if targets != 1:
        raise UnsupportedModelError(f"n_targets {targets}; only one score per row is represented")
    if post_transform != "NONE":
        # For one target onnxruntime applies PROBIT and ignores the rest (onnxruntime #24862),
        # so that the two engines would differ, or agree on what the file does not say.
        raise UnsupportedModelError(f"post_transform {post_transform}; only NONE is represented")


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)
