"""Trees as an ONNX graph: one `ai.onnx.ml` `TreeEnsemble`, float32 throughout.

The graph is

    features [n, F] -> (Where(is_categorical, Floor, as is)) -> TreeEnsemble
                    -> (Sigmoid) -> scores [n, 1]

- `Floor` is there only if a split is categorical: XGBoost cuts a code's
  fraction off before it looks into a set. (Below zero `Floor` and a cut differ,
  but XGBoost finds no negative code in any set, and neither does `Floor`'s.)
- `Sigmoid` is there only for probabilities.
- There are no base values. XGBoost starts each sum from the base margin and
  adds the trees in order, so the base goes into the first tree's leaves: then a
  plain float32 sum from zero over the trees is XGBoost's, to the last bit.

A numeric split is BRANCH_LT, its true branch XGBoost's left. A categorical one
is BRANCH_MEMBER on the codes that XGBoost sends right, its true branch that
right. `TreeEnsemble` (operator set 5) rather than `TreeEnsembleRegressor` (3),
because it knows sets and its file is smaller, 4.4 against 11.0 MB for 1000 trees
of depth 8. onnxruntime 1.32 runs both alike (1000 rows in 52 ms on one thread)
and loads them in 0.15 and 0.12 s. Older ones do not do: 1.20 does not know
`TreeEnsemble`, 1.22 loads sets in exponential time, and 1.23 misreads a root
whose two children, one a leaf and the other not, have the same number.

The nodes' covers, which explanations need and scores don't, are in
`nodes_hitrates`, the operator's slot for how popular each node is. Its nodes are
its splits alone, and it has no such slot for leaves. So the leaves' covers are the
tensor `leaf_hitrates` in the model's `training_info`, which ONNX has for what
comes of training, and which a runtime that only scores passes over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ranker.export.xgboost_model import Tree
from ranker.forest.onnx.covers import LEAF_COVERS

INPUT = "features"
OUTPUT = "scores"

# Those of ONNX 1.16, the first release with TreeEnsemble.
_ML_OPSET = 5
_OPSET = 21
_IR_VERSION = 10

_BRANCH_LT = 1
_BRANCH_MEMBER = 6
_SUM = 1
_NO_TRANSFORM = 0


def to_onnx(
    trees: Sequence[Tree], base_margin: np.float32, num_features: int, *, probability: bool
) -> onnx.ModelProto:
    """Writes trees as an ONNX model.

    Args:
        trees: at least one, in the order in which they are added up.
        base_margin: what the sum starts from.
        num_features: the number of columns.
        probability: whether a sigmoid follows.
    """
    trees = [_as_split(tree) if tree.depth == 0 else tree for tree in trees]
    sums = "margins" if probability else OUTPUT
    categorical = np.zeros((1, num_features), np.bool_)
    for tree in trees:
        categorical[0, tree.feature[list(tree.members)]] = True

    nodes, initializers, codes = [], [], INPUT
    if categorical.any():
        codes = "codes"
        initializers.append(numpy_helper.from_array(categorical, "is_categorical"))
        nodes.append(helper.make_node("Floor", [INPUT], ["floored"]))
        nodes.append(helper.make_node("Where", ["is_categorical", "floored", INPUT], [codes]))
    nodes.append(helper.make_node("TreeEnsemble", [codes], [sums], domain="ai.onnx.ml"))
    for attribute, value in _ensemble(trees, base_margin).items():
        nodes[-1].attribute.append(helper.make_attribute(attribute, value))
    if probability:
        nodes.append(helper.make_node("Sigmoid", [sums], [OUTPUT]))

    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", num_features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 1])],
        initializers,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="ranker"
    )
    covers = model.training_info.add().initialization
    covers.name = "covers"
    covers.initializer.append(numpy_helper.from_array(_leaf_covers(trees), LEAF_COVERS))
    onnx.checker.check_model(model, full_check=True)
    return model


def _leaf_covers(trees: Sequence[Tree]) -> NDArray[np.float32]:
    """In the order of the operator's leaves."""
    return np.concatenate([tree.cover[tree.left < 0] for tree in trees])


def _ensemble(trees: Sequence[Tree], base_margin: np.float32) -> dict[str, object]:
    """The operator's attributes.

    It counts splits and leaves apart, each across all trees.
    """
    roots, features, splits, modes, tracks_true = [], [], [], [], []
    true_ids, true_leaves, false_ids, false_leaves = [], [], [], []
    weights: list[NDArray[np.float32]] = []
    covers: list[NDArray[np.float32]] = []
    members: list[NDArray[np.float32]] = []
    num_splits = num_leaves = 0
    for index, tree in enumerate(trees):
        leaf = tree.left < 0
        split = ~leaf
        slot = np.where(leaf, num_leaves + leaf.cumsum() - 1, num_splits + split.cumsum() - 1)
        by_set = np.zeros(len(leaf), np.bool_)
        by_set[list(tree.members)] = True
        on_true = np.where(by_set, tree.right, tree.left)[split]
        on_false = np.where(by_set, tree.left, tree.right)[split]

        roots.append(num_splits)
        features.append(tree.feature[split])
        splits.append(np.where(by_set, np.float32(0), tree.value)[split])
        modes.append(np.where(by_set, _BRANCH_MEMBER, _BRANCH_LT)[split])
        tracks_true.append((tree.missing_left ^ by_set)[split])
        true_ids.append(slot[on_true])
        true_leaves.append(leaf[on_true])
        false_ids.append(slot[on_false])
        false_leaves.append(leaf[on_false])
        value = tree.value[leaf]
        weights.append(base_margin + value if index == 0 else value)
        covers.append(tree.cover[split])
        for node in sorted(tree.members):
            members += [tree.members[node], np.array([np.nan], np.float32)]
        num_splits += int(split.sum())
        num_leaves += int(leaf.sum())

    def integers(parts: Sequence[NDArray[np.generic]]) -> list[int]:
        return np.concatenate(parts).astype(np.int64).tolist()  # type: ignore[no-any-return]

    attributes: dict[str, object] = {
        "n_targets": 1,
        "aggregate_function": _SUM,
        "post_transform": _NO_TRANSFORM,
        "tree_roots": roots,
        "nodes_featureids": integers(features),
        "nodes_splits": numpy_helper.from_array(np.concatenate(splits)),
        "nodes_modes": numpy_helper.from_array(np.concatenate(modes).astype(np.uint8)),
        "nodes_hitrates": numpy_helper.from_array(np.concatenate(covers)),
        "nodes_missing_value_tracks_true": integers(tracks_true),
        "nodes_truenodeids": integers(true_ids),
        "nodes_trueleafs": integers(true_leaves),
        "nodes_falsenodeids": integers(false_ids),
        "nodes_falseleafs": integers(false_leaves),
        "leaf_targetids": [0] * num_leaves,
        "leaf_weights": numpy_helper.from_array(np.concatenate(weights)),
    }
    if members:
        attributes["membership_values"] = numpy_helper.from_array(np.concatenate(members))
    return attributes


def _as_split(tree: Tree) -> Tree:
    """A tree of one leaf as a split into two equal ones.

    onnxruntime 1.23 and 1.24 misread the operator's own form of it, a split whose
    two branches are the same leaf; 1.32 doesn't.
    """
    return Tree(
        feature=np.zeros(3, np.int32),
        value=np.array([0, tree.value[0], tree.value[0]], np.float32),
        left=np.array([1, -1, -1], np.int32),
        right=np.array([2, -1, -1], np.int32),
        missing_left=np.zeros(3, np.bool_),
        members={},
        cover=tree.cover[0] * np.array([1, 0.5, 0.5], np.float32),
        depth=1,
    )
