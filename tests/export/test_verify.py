"""The verification has to see whatever could go wrong in an export."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xgboost as xgb

from ranker.export.onnx_writer import to_onnx
from ranker.export.verify import compare
from ranker.export.xgboost_model import XGBoostModel, read

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(500, 4)).astype(np.float32)
ROWS[:, 3] = RNG.integers(0, 40, 500)
LABEL = ROWS[:, 0] + np.sin(3 * ROWS[:, 1]) + RNG.normal(size=40)[ROWS[:, 3].astype(int)]
ROWS[RNG.random(ROWS.shape) < 0.1] = np.nan


def train(**params) -> XGBoostModel:
    data = xgb.DMatrix(ROWS, LABEL, feature_types=list("qqqc"), enable_categorical=True)
    return read(xgb.train({"max_depth": 4, "base_score": 3.0, **params}, data, 5))


@pytest.fixture(scope="module")
def model() -> XGBoostModel:
    return train()


def compared(model: XGBoostModel, trees=None, base=None):
    base = model.base_margin if base is None else np.float32(base)
    proto = to_onnx(trees or model.trees, base, model.num_features, probability=False)
    return compare(proto.SerializeToString(), model, probability=False)


def test_a_right_export_differs_nowhere(model):
    seen = compared(model)
    assert seen.max_difference == seen.max_relative_difference == 0
    assert seen.rows == 4096 + 256


def deepest_numeric(tree) -> int:
    """The last split of a tree, the hardest one to reach."""
    return max(n for n in np.flatnonzero(tree.left >= 0) if n not in tree.members)


def deepest_with_missing(tree, nodes) -> int:
    """The last split that a missing value can reach: the first on its feature on the way there."""

    def features_above(node):
        features = set()
        while node:
            node = int(np.flatnonzero((tree.left == node) | (tree.right == node))[0])
            features.add(tree.feature[node])
        return features

    return max(node for node in nodes if tree.feature[node] not in features_above(node))


def threshold_above(tree):
    value = tree.value.copy()
    node = deepest_numeric(tree)
    value[node] = np.nextafter(value[node], np.float32(np.inf))
    return replace(tree, value=value)


def threshold_below(tree):
    value = tree.value.copy()
    node = deepest_numeric(tree)
    value[node] = np.nextafter(value[node], np.float32(-np.inf))
    return replace(tree, value=value)


def missing_elsewhere(tree):
    missing_left = tree.missing_left.copy()
    splits = set(np.flatnonzero(tree.left >= 0).tolist()) - set(tree.members)
    missing_left[deepest_with_missing(tree, splits)] ^= True
    return replace(tree, missing_left=missing_left)


def sides_swapped(tree):
    node = deepest_numeric(tree)
    left, right = tree.left.copy(), tree.right.copy()
    left[node], right[node] = right[node], left[node]
    return replace(tree, left=left, right=right)


def leaf_one_ulp_off(tree):
    value = tree.value.copy()
    value[-1] = np.nextafter(value[-1], np.float32(np.inf)) + np.float32(1e-6)
    return replace(tree, value=value)


def other_feature(tree):
    feature = tree.feature.copy()
    node = deepest_numeric(tree)
    feature[node] = (feature[node] + 1) % 3
    return replace(tree, feature=feature)


def member_lost(tree):
    node = max(tree.members)
    return replace(tree, members={**tree.members, node: tree.members[node][:-1]})


def member_added(tree):
    node = max(tree.members)
    members = tree.members[node]
    extra = np.setdiff1d(np.arange(40, dtype=np.float32), members)[:1]
    return replace(tree, members={**tree.members, node: np.union1d(members, extra)})


def missing_category_elsewhere(tree):
    missing_left = tree.missing_left.copy()
    missing_left[deepest_with_missing(tree, tree.members)] ^= True
    return replace(tree, missing_left=missing_left)


@pytest.mark.parametrize(
    "spoil",
    [
        threshold_above,
        threshold_below,
        missing_elsewhere,
        sides_swapped,
        leaf_one_ulp_off,
        other_feature,
        member_lost,
        member_added,
        missing_category_elsewhere,
    ],
)
@pytest.mark.parametrize("index", [0, 4])
def test_one_wrong_node_in_one_tree_is_seen(spoil, index, model):
    trees = list(model.trees)
    trees[index] = spoil(trees[index])
    assert compared(model, trees).max_difference > 0


def test_a_wrong_base_is_seen(model):
    seen = compared(model, base=model.base_margin + np.float32(1))
    assert seen.max_difference == pytest.approx(1, abs=1e-5)
    assert seen.max_relative_difference > 1e-2


def test_a_lost_tree_is_seen(model):
    assert compared(model, model.trees[:-1]).max_difference > 0


def test_the_difference_is_relative_to_the_range_and_not_to_the_base():
    model = train(base_score=1e5)
    seen = compared(model, base=model.base_margin + np.float32(0.5))
    assert seen.max_relative_difference > 1e-2


def test_scores_that_are_all_equal_must_be_equal_to_the_bit():
    model = train(gamma=1e9)
    assert compared(model).max_relative_difference == 0
    off = np.nextafter(model.base_margin, np.float32(np.inf))
    assert compared(model, base=off).max_relative_difference == np.inf


def test_dart_is_compared_with_predict_alone():
    model = train(booster="dart", rate_drop=0.5)
    seen = compared(model)
    assert seen.rows == 4096
    assert seen.max_relative_difference < 1e-6
