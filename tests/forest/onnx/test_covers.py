"""Covers are read where they are sound, and never keep a model from being scored."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ranker.forest import Forest
from ranker.forest.onnx import read_forest
from ranker.forest.onnx.covers import LEAF_COVERS, sound
from tests.forest.onnx.onnx_models import Split, model, regressor, tensor, tree_ensemble

TREES = [Split(0, "LT", 0.5, Split(1, "GTE", 2, 10, 20), 30), 40.0, Split(2, "LEQ", 1, 50, 60)]
# By the leaf's value.
COVERS = {10: 1, 20: 2, 30: 4, 40: 8, 50: 16, 60: 32}


def read(node: NodeProto, leaf_covers: TensorProto | None = None) -> Forest:
    proto = model(node)
    if leaf_covers is not None:
        leaf_covers.name = LEAF_COVERS
        proto.training_info.add().initialization.initializer.append(leaf_covers)
    forest = read_forest(proto.SerializeToString())
    assert sorted(forest.threshold[forest.feature < 0].tolist()) == sorted(COVERS)
    return forest


def with_hitrates(node: NodeProto, values, name: str = "nodes_hitrates") -> NodeProto:
    node.attribute.append(helper.make_attribute(name, values))
    return node


def check(forest: Forest) -> None:
    """Each node's cover is that of the leaves below it."""
    assert forest.cover is not None
    for node in reversed(range(len(forest.feature))):
        if forest.feature[node] < 0:
            want = COVERS[int(forest.threshold[node])]
        else:
            want = forest.cover[forest.left[node]] + forest.cover[forest.left[node] + 1]
        assert forest.cover[node] == want


# In the TreeEnsemble's order, which has a split for the lone leaf, too.
SPLITS = [7.0, 3.0, 8.0, 48.0]


def leaves() -> list[float]:
    """The covers of a TreeEnsemble's leaves, in its order."""
    (weights,) = (a.t for a in tree_ensemble(TREES).attribute if a.name == "leaf_weights")
    return [float(COVERS[int(value)]) for value in numpy_helper.to_array(weights)]


def nodes() -> list[float]:
    """The covers of a TreeEnsembleRegressor's nodes, in its order."""
    below = iter([7, 3, 48])
    attributes = {a.name: helper.get_attribute_value(a) for a in regressor(TREES).attribute}
    values = attributes["nodes_values"], attributes["nodes_modes"]
    weights = iter(attributes["target_weights"])
    return [
        float(COVERS[int(next(weights))]) if mode == b"LEAF" else float(next(below))
        for _, mode in zip(*values, strict=True)
    ]


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_regressor_has_them_for_all_nodes(as_tensor):
    if as_tensor:
        values = tensor(TensorProto.FLOAT, nodes())
        check(read(with_hitrates(regressor(TREES), values, "nodes_hitrates_as_tensor")))
    else:
        check(read(with_hitrates(regressor(TREES), nodes())))


def test_a_tree_ensemble_has_them_for_splits_and_the_training_info_for_leaves():
    node = with_hitrates(tree_ensemble(TREES), tensor(TensorProto.FLOAT, SPLITS))
    check(read(node, tensor(TensorProto.FLOAT, leaves())))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([1.0] * 9, id="the-same-for-all"),
        pytest.param([0.0] * 9, id="zero-for-all"),
        pytest.param([0.0], id="too-few"),
        pytest.param([np.nan] * 9, id="nan"),
        pytest.param([-value for value in nodes()], id="negative"),
        pytest.param([np.inf, *nodes()[1:]], id="infinite"),
        pytest.param(nodes()[::-1], id="of-other-nodes"),
    ],
)
def test_what_can_not_be_covers_is_left_out(values):
    assert read(with_hitrates(regressor(TREES), values)).cover is None


@pytest.mark.parametrize(
    ("splits", "leaf_covers"),
    [
        pytest.param(None, tensor(TensorProto.FLOAT, leaves()), id="no-splits"),
        pytest.param(tensor(TensorProto.FLOAT, SPLITS), None, id="no-leaves"),
        pytest.param(
            tensor(TensorProto.DOUBLE, SPLITS), tensor(TensorProto.FLOAT, leaves()), id="doubles"
        ),
        pytest.param(
            tensor(TensorProto.FLOAT, SPLITS), tensor(TensorProto.DOUBLE, leaves()), id="both"
        ),
        pytest.param(
            tensor(TensorProto.FLOAT, SPLITS), tensor(TensorProto.FLOAT, [1.0]), id="too-few"
        ),
        pytest.param(
            tensor(TensorProto.FLOAT, SPLITS),
            numpy_helper.from_array(np.array([leaves()] * 2, np.float32).T),
            id="two-dimensions",
        ),
        pytest.param(
            tensor(TensorProto.FLOAT, SPLITS),
            numpy_helper.from_array(np.array(1, np.float32)),
            id="no-dimension",
        ),
        pytest.param(
            tensor(TensorProto.FLOAT, SPLITS),
            TensorProto(data_type=TensorProto.FLOAT, dims=[6], raw_data=b"1"),
            id="damaged",
        ),
    ],
)
def test_covers_that_are_not_all_there_are_left_out(splits, leaf_covers):
    node = tree_ensemble(TREES)
    if splits is not None:
        with_hitrates(node, splits)
    assert read(node, leaf_covers).cover is None


def test_covers_summed_in_float32_are_sound():
    left, roots = np.array([1, -1, -1], np.int32), np.zeros(1, np.int32)
    assert sound(np.array([16777220, 16777216, 3], np.float32), left, roots)
    assert not sound(np.array([100, 98, 0], np.float32), left, roots)


@pytest.mark.parametrize(
    ("cover", "expected"),
    [
        pytest.param([4, 4, 0, 0, 0, 0], True, id="below-a-root"),
        pytest.param([0, 0, 0, 0, 0, 8], False, id="at-a-root-that-is-a-split"),
        pytest.param([4, 1, 3, 1, 2, 0], True, id="at-a-root-that-is-a-leaf"),
    ],
)
def test_no_row_at_all_may_come_to_a_node_but_to_a_root_that_is_a_split(cover, expected):
    left, roots = np.array([1, -1, 3, -1, -1, -1], np.int32), np.array([0, 5], np.int32)
    assert sound(np.array(cover, np.float32), left, roots) is expected
