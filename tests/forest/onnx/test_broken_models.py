"""Broken and hostile models are refused with an error that names the part; nothing else escapes."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest.onnx import read_forest
from ranker.forest.onnx.growth import MAX_DEPTH
from tests.forest.onnx.onnx_models import Split, model, regressor, tensor, tree_ensemble
from tests.forest.onnx.refusals import TREE, change, refused

SETS = Split(0, "MEMBER", 0, 1.0, Split(1, "MEMBER", 0, 2.0, 3.0, False, (4, 5)), False, (6,))
NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"nodes_truenodeids": {0: 9}}, "node 0: nodes_truenodeids", id="child-beyond"),
        pytest.param({"nodes_falsenodeids": {1: -1}}, "node 1: nodes_falsenodeids", id="negative"),
        pytest.param({"nodes_truenodeids": {0: 2**40}}, "node 0: nodes_true", id="child-2^40"),
        pytest.param({"nodes_truenodeids": {0: 0}}, "node 0: is a root and has", id="own-child"),
        pytest.param({"nodes_falsenodeids": {0: 1}}, "node 1: has two parents", id="two-parents"),
        pytest.param({"nodes_truenodeids": {1: 1}}, "leaf 1: has two parents", id="shared-leaf"),
        pytest.param(
            {"nodes_truenodeids": {2: 0}, "nodes_trueleafs": {2: 0}},
            "node 0: is a root and has a parent",
            id="cycle-through-root",
        ),
        pytest.param(
            {
                "nodes_truenodeids": [0, 2, 1],
                "nodes_trueleafs": [1, 0, 0],
                "nodes_falsenodeids": [1, 2, 3],
                "nodes_falseleafs": [1, 1, 1],
            },
            "node 1: is on a cycle",
            id="cycle-apart",
        ),
        pytest.param(
            {
                "nodes_falsenodeids": {0: 4},
                "nodes_falseleafs": {0: 1},
                "leaf_weights": tensor(TensorProto.FLOAT, [0.0] * 5),
                "leaf_targetids": [0] * 5,
            },
            "node 2: no root leads to it",
            id="cut-off",
        ),
        pytest.param({"tree_roots": []}, "tree_roots: missing or empty", id="no-roots"),
        pytest.param({"tree_roots": None}, "tree_roots: missing or empty", id="no-roots-at-all"),
        pytest.param({"tree_roots": [3]}, "tree 0: tree_roots", id="root-beyond"),
        pytest.param({"tree_roots": [0, 0]}, "node 0: is a root and has", id="root-twice"),
        pytest.param({"tree_roots": [1]}, "node 1: is a root and has a parent", id="inner-root"),
        pytest.param({"nodes_splits": {1: NAN}}, "node 1: the threshold is NaN", id="nan-split"),
        pytest.param({"leaf_weights": {2: NAN}}, "leaf 2: the leaf is NaN", id="nan-leaf"),
        pytest.param({"leaf_weights": {2: np.inf}}, "leaf 2: the leaf is NaN or inf", id="inf"),
        pytest.param({"nodes_featureids": {2: 4}}, "node 2: reads a feature", id="feature-beyond"),
        pytest.param({"nodes_featureids": {2: -1}}, "node 2: reads a feature", id="feature-neg"),
        pytest.param({"nodes_featureids": {2: 2**32}}, "node 2: reads", id="feature-2^32"),
        pytest.param({"nodes_modes": {0: 7}}, "node 0: unknown mode", id="unknown-mode"),
        pytest.param({"nodes_featureids": [0, 1]}, "nodes_featureids: 2 values", id="short"),
        pytest.param({"nodes_trueleafs": {0: 2}}, "nodes_trueleafs entry 0", id="flag-2"),
        pytest.param({"leaf_targetids": {3: 1}}, "leaf 3: leaf_targetids", id="target-beyond"),
        pytest.param({"leaf_weights": None}, "leaf_weights: missing", id="no-weights"),
        pytest.param({"nodes_splits": [0.1]}, "nodes_splits: expected TENSOR", id="wrong-kind"),
        pytest.param({"nodes_magic": 1}, "'nodes_magic': unknown", id="unknown-attribute"),
        pytest.param(
            {"nodes_splits": helper.make_tensor("", TensorProto.FLOAT, [3, 1], [1, 2, 3])},
            "nodes_splits: 2 dimensions",
            id="matrix",
        ),
        pytest.param(
            {"nodes_splits": tensor(TensorProto.INT64, [1, 2, 3])},
            "'nodes_splits' is int64; expected float",
            id="integer-splits",
        ),
        pytest.param(
            {"nodes_splits": TensorProto(data_type=1, dims=[2**40], float_data=[1, 2, 3])},
            "'nodes_splits' is damaged",
            id="2^40-declared",
        ),
        pytest.param(
            {"nodes_splits": TensorProto(data_type=1, dims=[-1], float_data=[1, 2, 3])},
            "'nodes_splits' declares the shape",
            id="minus-one-declared",
        ),
        pytest.param(
            {"nodes_splits": TensorProto(data_type=1, dims=[3], raw_data=b"12345678901")},
            "'nodes_splits' is damaged",
            id="torn-bytes",
        ),
    ],
)
def test_broken_tree_ensemble(changes, message):
    node = change(tree_ensemble([TREE]), **changes)
    with pytest.raises(ModelError, match=message) as caught:
        read_forest(model(node).SerializeToString())
    assert not isinstance(caught.value, UnsupportedModelError)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"nodes_truenodeids": {0: 9}}, "tree 5 node 0: nodes_true", id="no-child"),
        pytest.param({"nodes_truenodeids": {0: -1}}, "tree 5 node 0: nodes_true", id="negative"),
        pytest.param({"nodes_truenodeids": {0: 2**31}}, "tree 5 node 0: nodes_true", id="2^31"),
        pytest.param({"nodes_falsenodeids": {0: 1}}, "tree 5 node 1: has two", id="two-parents"),
        pytest.param({"nodes_truenodeids": {1: 0}}, "tree 5 node 0: is a root", id="cycle"),
        pytest.param({"nodes_truenodeids": {4: 4}}, "tree 5 node 4: has two", id="own-child"),
        pytest.param({"nodes_nodeids": {3: 2}}, "tree 5 node 2: listed twice", id="same-id"),
        pytest.param({"nodes_nodeids": {3: -2}}, "tree 5 node -2: the node id", id="negative-id"),
        pytest.param({"nodes_nodeids": {3: 2**33}}, "the node id is out", id="huge-id"),
        pytest.param({"nodes_treeids": {3: 6}}, "tree 5: its nodes are not", id="scattered"),
        pytest.param({"nodes_modes": {3: "LEAVE"}}, "tree 5 node 3: unknown", id="mode"),
        pytest.param({"nodes_modes": {3: b"\xff"}}, "tree 5 node 3: unknown", id="mode-bytes"),
        pytest.param({"nodes_modes": {0: "LEAF"}}, "tree 5 node 0: the leaf has", id="no-weight"),
        pytest.param({"nodes_values": {0: NAN}}, "tree 5 node 0: the threshold", id="nan-split"),
        pytest.param({"target_weights": {0: NAN}}, "tree 5 node 2: the leaf is", id="nan-leaf"),
        pytest.param({"target_nodeids": {0: 7}}, "entry 0, tree 5 node 7: no such", id="weight"),
        pytest.param({"target_treeids": {0: 4}}, "entry 0, tree 4 node 2: no such", id="tree"),
        pytest.param({"target_ids": {1: 1}}, "entry 1.*target_ids is not 0", id="target"),
        pytest.param({"target_ids": [0]}, "target_ids: 1 values; expected 4", id="short-target"),
        pytest.param({"nodes_nodeids": []}, "nodes_nodeids: missing or empty", id="no-ids"),
        pytest.param({"nodes_featureids": {0: 4}}, "tree 5 node 0: reads a feature", id="feature"),
        pytest.param({"base_values": [1.0, 2.0]}, "base_values: 2 values", id="two-bases"),
        pytest.param({"base_values": [NAN]}, "base_values: NaN or infinite", id="nan-base"),
        pytest.param(
            {"nodes_values_as_tensor": tensor(TensorProto.FLOAT, [0.0] * 7)},
            "nodes_values: also given",
            id="values-twice",
        ),
        pytest.param(
            {"nodes_missing_value_tracks_true": {0: 2}}, "entry 0: neither 0 nor 1", id="flag-2"
        ),
    ],
)
def test_broken_regressor(changes, message):
    node = change(regressor([TREE]), nodes_treeids=[5] * 7, target_treeids=[5] * 4)
    with pytest.raises(ModelError, match=message) as caught:
        read_forest(model(change(node, **changes), ml_opset=1).SerializeToString())
    assert not isinstance(caught.value, UnsupportedModelError)


def test_root_must_come_first():
    """onnxruntime walks from a tree's first node, wherever the root is."""
    node = change(regressor([TREE]), nodes_nodeids=[1, 0, 2, 3, 4, 5, 6])
    assert "is a root and has a parent" in refused(model(node, ml_opset=1).SerializeToString())


def test_equalities_on_a_cycle():
    lone = {"nodes_truenodeids": {0: 1, 2: 3, 3: 3}, "nodes_falsenodeids": {0: 4, 2: 3, 3: 2}}
    modes = ["BRANCH_LT", "LEAF", "BRANCH_EQ", "BRANCH_EQ", "LEAF", "LEAF", "LEAF"]
    node = change(regressor([TREE]), nodes_modes=modes, **lone, nodes_featureids=[0] * 7)
    change(node, target_nodeids=[1, 4, 5, 6])
    assert "node 2: is on a cycle" in refused(model(node, ml_opset=1).SerializeToString())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"nodes_featureids": {1: 3}}, id="other-feature"),
        pytest.param({"nodes_missing_value_tracks_true": {1: 1}}, id="other-nan-side"),
    ],
)
def test_equalities_that_share_a_child_and_are_no_chain(changes):
    node = change(regressor([Split(2, "MEMBER", 0, 1.0, 2.0, False, (3, 4))]), **changes)
    assert "node 2: has two parents" in refused(model(node, ml_opset=1).SerializeToString())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param([6, NAN], "1 sets for 2 nodes", id="too-few"),
        pytest.param([6, NAN, 4, NAN, 5, NAN], "3 sets for 2 nodes", id="too-many"),
        pytest.param([NAN, 4, NAN], "node 0: the set is empty", id="first-empty"),
        pytest.param([6, NAN, NAN], "node 1: the set is empty", id="last-empty"),
        pytest.param(None, "membership_values: missing", id="none"),
    ],
)
def test_broken_sets(members, message):
    values = None if members is None else tensor(TensorProto.FLOAT, members)
    node = change(tree_ensemble([SETS]), membership_values=values)
    assert message in refused(model(node).SerializeToString())


@pytest.mark.parametrize("side", ["true", "false"])
def test_too_deep(side):
    """A chain that overflows the stack of onnxruntime's loader, made without recursion here."""
    n = MAX_DEPTH + 1
    node = tree_ensemble([0.0])
    other = "false" if side == "true" else "true"
    change(
        node,
        nodes_modes=tensor(TensorProto.UINT8, [1] * n),
        nodes_splits=tensor(TensorProto.FLOAT, [0.0] * n),
        nodes_featureids=[0] * n,
        nodes_missing_value_tracks_true=[0] * n,
        leaf_weights=tensor(TensorProto.FLOAT, [0.0] * (n + 1)),
        leaf_targetids=[0] * (n + 1),
        **{
            f"nodes_{side}nodeids": [*range(1, n), n],
            f"nodes_{side}leafs": [0] * (n - 1) + [1],
            f"nodes_{other}nodeids": list(range(n)),
            f"nodes_{other}leafs": [1] * n,
        },
    )
    assert f"more than {MAX_DEPTH} splits deep" in refused(model(node).SerializeToString())


@pytest.mark.parametrize("features", [0, -3, 2**40])
def test_number_of_features(features):
    content = model(tree_ensemble([TREE]), features=features)
    assert f"declares {features} features" in refused(content.SerializeToString())
    content.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "f"
    assert "declares 0 features" in refused(content.SerializeToString())
