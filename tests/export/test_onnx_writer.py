from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from ranker.export.onnx_writer import to_onnx
from ranker.export.xgboost_model import Tree


def leaf(value: float) -> Tree:
    return Tree(
        feature=np.zeros(1, np.int32),
        value=np.array([value], np.float32),
        left=np.array([-1], np.int32),
        right=np.array([-1], np.int32),
        missing_left=np.zeros(1, np.bool_),
        members={},
        cover=np.array([8], np.float32),
        depth=0,
    )


def stump(feature: int, threshold: float, left: float, right: float, members=None) -> Tree:
    return Tree(
        feature=np.array([feature, 0, 0], np.int32),
        value=np.array([threshold, left, right], np.float32),
        left=np.array([1, -1, -1], np.int32),
        right=np.array([2, -1, -1], np.int32),
        missing_left=np.array([True, False, False]),
        members={} if members is None else {0: np.array(members, np.float32)},
        cover=np.array([8, 5, 3], np.float32),
        depth=1,
    )


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def attributes(model: ModelProto) -> dict:
    (node,) = (node for node in model.graph.node if node.op_type == "TreeEnsemble")
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def run(model: ModelProto, rows, score, tmp_path) -> list[float]:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return score(path, np.array(rows, np.float32)).tolist()


def test_numeric_trees_are_one_operator():
    model = to_onnx([stump(0, 0.5, 1, 2)], np.float32(0), 2, probability=False)
    assert operators(model) == ["TreeEnsemble"]
    assert "membership_values" not in attributes(model)


def test_codes_are_rounded_down_where_and_only_where_a_split_is_categorical():
    trees = [stump(0, 0.5, 1, 2), stump(2, 0, 1, 2, members=[0, 3])]
    model = to_onnx(trees, np.float32(0), 4, probability=False)
    assert operators(model) == ["Floor", "Where", "TreeEnsemble"]
    (is_categorical,) = model.graph.initializer
    assert numpy_helper.to_array(is_categorical).tolist() == [[False, False, True, False]]


def test_a_probability_is_a_sigmoid_behind_the_trees():
    model = to_onnx([stump(0, 0.5, 1, 2)], np.float32(0), 2, probability=True)
    assert operators(model) == ["TreeEnsemble", "Sigmoid"]
    assert [output.name for output in model.graph.output] == ["scores"]


def test_the_base_is_added_to_the_first_trees_leaves_in_float32():
    base = np.float32(1e4)
    model = to_onnx([stump(0, 0, 0.1, 0.2), stump(0, 0, 0.1, 0.2)], base, 1, probability=False)
    weights = numpy_helper.to_array(attributes(model)["leaf_weights"])
    assert weights.dtype == np.float32
    expected = np.array([0.1, 0.2, 0.1, 0.2], np.float32)
    expected[:2] += base
    np.testing.assert_array_equal(weights, expected)
    assert "base_values" not in attributes(model)


@pytest.mark.parametrize(
    "trees",
    [
        pytest.param([leaf(8)], id="alone"),
        pytest.param([leaf(8), stump(0, 0.5, 1, 2)], id="first"),
        pytest.param([stump(0, 0.5, 1, 2), leaf(8)], id="last"),
        pytest.param([leaf(8), leaf(16), stump(0, 0.5, 1, 2), leaf(32)], id="several"),
    ],
)
def test_a_tree_of_one_leaf_adds_its_value_to_every_row(trees, score, tmp_path):
    model = to_onnx(trees, np.float32(64), 1, probability=False)
    constant = 64 + sum(float(tree.value[0]) for tree in trees if tree.depth == 0)
    sides = [1, 2] if any(tree.depth for tree in trees) else [0, 0]
    rows = [[0.0], [1.0]]
    assert run(model, rows, score, tmp_path) == [constant + side for side in sides]


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([0], id="zero"),
        pytest.param([1], id="one"),
        pytest.param([31, 32, 33], id="around-32"),
        pytest.param(range(0, 200, 3), id="more-than-64"),
        pytest.param([0, 2**24 - 1], id="largest"),
        pytest.param(range(0, 60000, 7), id="thousands"),
    ],
)
def test_a_set_sends_its_members_right_and_all_else_left(members, score, tmp_path):
    codes = np.array(members, np.float32)
    rows = np.concatenate((codes, codes + 0.5, codes + 1, codes - 1, [-0.5, -1, 2.0**24, 1e30]))
    rows = rows.astype(np.float32)
    whole = np.where(rows < 0, -1, np.trunc(rows))
    expected = np.where(np.isin(whole, codes), 2.0, 1.0)
    model = to_onnx([stump(0, 0, 1, 2, members)], np.float32(0), 1, probability=False)
    assert run(model, rows[:, None], score, tmp_path) == expected.tolist()
    assert run(model, [[np.nan]], score, tmp_path) == [1.0]


def test_infinite_thresholds_are_kept(score, tmp_path):
    trees = [stump(0, np.inf, 1, 2), stump(0, -np.inf, 10, 20)]
    model = to_onnx(trees, np.float32(0), 1, probability=False)
    rows = [[-np.inf], [0], [3e38], [np.inf], [np.nan]]
    assert run(model, rows, score, tmp_path) == [21, 21, 21, 22, 11]
