"""Trees as plain Python: written as each of ONNX's operators, and scored by its specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from ranker.forest import Forest

MODES = ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER"]


@dataclass(frozen=True)
class Split:
    """A split; `members` instead of `value` for mode MEMBER."""

    feature: int
    mode: str
    value: float
    true: Split | float
    false: Split | float
    missing_true: bool = False
    members: tuple[float, ...] = ()


Tree = Split | float
"""A tree: a split, or the value of a leaf."""


def score(trees: Sequence[Tree], row: NDArray[np.float32], base: float = 0.0) -> np.float32:
    """The score of one row as the operators' specification has it, summed in float32."""
    total = np.float32(0)
    for tree in trees:
        while isinstance(tree, Split):
            tree = tree.true if _is_true(tree, row[tree.feature]) else tree.false
        total += np.float32(tree)
    return total + np.float32(base)


def _is_true(split: Split, x: np.float32) -> bool:
    if np.isnan(x):
        return split.missing_true
    t = np.float32(split.value)
    return {
        "LEQ": x <= t,
        "LT": x < t,
        "GTE": x >= t,
        "GT": x > t,
        "EQ": x == t,
        "NEQ": x != t,
        "MEMBER": x in np.array(split.members, np.float32),
    }[split.mode]


def evaluate(forest: Forest, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Walks a Forest by its documented rules, one row and one node at a time."""
    scores = np.zeros(len(rows), np.float32)
    for i, row in enumerate(rows):
        row = np.where(forest.floored, np.floor(row), row)
        for root in forest.roots:
            node = root
            while forest.feature[node] >= 0:
                x = row[forest.feature[node]]
                begin, end = forest.members_begin[node], forest.members_end[node]
                if np.isnan(x):
                    left = forest.missing_left[node]
                elif begin < end:
                    left = x in forest.members[begin:end]
                else:
                    left = x < forest.threshold[node]
                node = forest.left[node] + (not left)
            scores[i] += forest.threshold[node]
    return scores + forest.base


def tree_ensemble(trees: Sequence[Tree]) -> NodeProto:
    """`TreeEnsemble`, ai.onnx.ml 5."""
    splits: list[Split] = []
    leaves: list[float] = []

    def add(tree: Tree) -> tuple[int, int]:
        """Adds a subtree; returns its position and whether it is a leaf."""
        if not isinstance(tree, Split):
            leaves.append(tree)
            return len(leaves) - 1, 1
        position = len(splits)
        splits.append(tree)
        children.append(((0, 0), (0, 0)))
        children[position] = (add(tree.true), add(tree.false))
        return position, 0

    children: list[tuple[tuple[int, int], tuple[int, int]]] = []
    roots = []
    for tree in trees:
        roots.append(len(splits))
        if isinstance(tree, Split):
            add(tree)
        else:  # both children are the one leaf
            leaves.append(tree)
            splits.append(Split(0, "LT", 0, tree, tree))
            children.append(((len(leaves) - 1, 1), (len(leaves) - 1, 1)))
    sets = [x for s in splits if s.mode == "MEMBER" for x in (*s.members, float("nan"))]
    attributes = {
        "n_targets": 1,
        "tree_roots": roots,
        "nodes_modes": tensor(TensorProto.UINT8, [MODES.index(s.mode) for s in splits]),
        "nodes_featureids": [s.feature for s in splits],
        "nodes_splits": tensor(TensorProto.FLOAT, [s.value for s in splits]),
        "nodes_missing_value_tracks_true": [int(s.missing_true) for s in splits],
        "nodes_truenodeids": [true[0] for true, _ in children],
        "nodes_trueleafs": [true[1] for true, _ in children],
        "nodes_falsenodeids": [false[0] for _, false in children],
        "nodes_falseleafs": [false[1] for _, false in children],
        "leaf_targetids": [0] * len(leaves),
        "leaf_weights": tensor(TensorProto.FLOAT, leaves),
    }
    if sets:
        attributes["membership_values"] = tensor(TensorProto.FLOAT, sets)
    return _node("TreeEnsemble", attributes)


def regressor(trees: Sequence[Tree], base: float | None = None, tensors: bool = False) -> NodeProto:
    """`TreeEnsembleRegressor`, ai.onnx.ml 1, or 3 with its numbers as tensors.

    A set is written as a chain of equalities that share their true child, as
    onnxmltools does.
    """
    nodes: list[dict[str, object]] = []

    def add(number: int, tree: Tree, node_id: int) -> int:
        """Adds a subtree whose root gets `node_id`; returns the next free id."""
        if not isinstance(tree, Split):
            leaf = {"mode": "LEAF", "value": tree, "feature": 0, "true": 0, "false": 0}
            nodes.append({**leaf, "missing": 0, "tree": number, "id": node_id})
            return node_id + 1
        values = tree.members if tree.mode == "MEMBER" else (tree.value,)
        ids = list(range(node_id, node_id + len(values)))
        own = []
        for at in ids:
            own.append({"id": at, "tree": number, "feature": tree.feature})
            nodes.append(own[-1])
        true = ids[-1] + 1
        false = add(number, tree.true, true)
        for node, value, following in zip(own, values, [*ids[1:], false], strict=True):
            mode = "EQ" if tree.mode == "MEMBER" else tree.mode
            node |= {"mode": f"BRANCH_{mode}", "value": value, "missing": int(tree.missing_true)}
            node |= {"true": true, "false": following}
        return add(number, tree.false, false)

    for number, tree in enumerate(trees):
        add(number, tree, 0)
    leaves = [node for node in nodes if node["mode"] == "LEAF"]

    def column(name: str, of: list[dict[str, object]] = nodes) -> list:
        return [node[name] for node in of]

    attributes = {
        "n_targets": 1,
        "nodes_treeids": column("tree"),
        "nodes_nodeids": column("id"),
        "nodes_modes": column("mode"),
        "nodes_featureids": column("feature"),
        "nodes_truenodeids": column("true"),
        "nodes_falsenodeids": column("false"),
        "nodes_missing_value_tracks_true": column("missing"),
        "target_treeids": column("tree", leaves),
        "target_nodeids": column("id", leaves),
        "target_ids": [0] * len(leaves),
    }
    numbers = {
        "nodes_values": [0.0 if node["mode"] == "LEAF" else node["value"] for node in nodes],
        "target_weights": column("value", leaves),
    }
    if base is not None:
        numbers["base_values"] = [base]
    for name, values in numbers.items():
        if tensors:
            attributes[f"{name}_as_tensor"] = tensor(TensorProto.FLOAT, values)
        else:
            attributes[name] = values
    return _node("TreeEnsembleRegressor", attributes)


def model(
    *nodes: NodeProto, features: int = 4, ml_opset: int = 5, constants: Sequence[TensorProto] = ()
) -> ModelProto:
    """A model from input `x` to output `y`, both float32."""
    graph = helper.make_graph(
        list(nodes),
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        list(constants),
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", ml_opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def tensor(kind: int, values: Sequence[float]) -> TensorProto:
    """A vector as a TensorProto."""
    return helper.make_tensor("", kind, [len(values)], values)


def _node(op_type: str, attributes: dict[str, object]) -> NodeProto:
    return helper.make_node(op_type, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
