"""The thresholds of each feature: XGBoost's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost as xgb

from ranker.export import export_onnx
from ranker.forest.onnx import OnnxFile, read_forest
from ranker.forest.ranges import threshold_ranges, thresholds_by_feature


@pytest.fixture(scope="module")
def booster() -> xgb.Booster:
    """Of four features, the third categorical and the fourth of no use."""
    dice = np.random.default_rng(3)
    rows = dice.normal(size=(500, 4))
    rows[:, 2] = dice.integers(0, 6, 500)
    labels = rows[:, 0] + rows[:, 1] ** 2 + (rows[:, 2] % 2)
    rows[:, 3] = 1
    types = ["q", "q", "c", "q"]
    data = xgb.DMatrix(rows, labels, feature_types=types, enable_categorical=True)
    return xgb.train({"max_depth": 3, "seed": 1}, data, 20)


@pytest.fixture(scope="module")
def with_lone_leaves() -> xgb.Booster:
    """Of three features, the first never read; most of its trees are a leaf."""
    dice = np.random.default_rng(0)
    rows = np.column_stack([np.ones(500), dice.normal(100, 5, 500), dice.normal(size=500)])
    params = {"max_depth": 2, "gamma": 2.0, "eta": 1.0}
    booster = xgb.train(params, xgb.DMatrix(rows, 1.0 * (rows[:, 1] > 100)), 20)
    lone = [text for text in booster.get_dump() if "[" not in text]
    assert len(lone) > 5
    return booster


@pytest.mark.parametrize("column", [0, 1], ids=["unread", "read"])
def test_a_tree_of_one_leaf_has_no_threshold(with_lone_leaves, tmp_path, column):
    booster = with_lone_leaves
    if column:  # the export splits such a tree on the first feature: here one that is read
        document = json.loads(booster.save_raw("json"))
        for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
            tree["split_indices"] = [max(0, index - 1) for index in tree["split_indices"]]
        booster = xgb.Booster()
        booster.load_model(bytearray(json.dumps(document).encode()))
    splits = booster.trees_to_dataframe()
    splits = splits[splits.Feature != "Leaf"]
    export_onnx(booster, tmp_path / "m.onnx")
    found = thresholds_by_feature(read_forest(OnnxFile.read(tmp_path / "m.onnx")))
    assert sorted(found) == sorted({int(name[1:]) for name in splits.Feature})
    for feature, thresholds in found.items():
        own = splits.Split[splits.Feature == f"f{feature}"].to_numpy(np.float32)
        np.testing.assert_array_equal(thresholds, np.unique(own))


def test_they_are_those_that_xgboost_tells(booster, tmp_path):
    export_onnx(booster, tmp_path / "m.onnx")
    forest = read_forest(OnnxFile.read(tmp_path / "m.onnx"))
    splits = booster.trees_to_dataframe()
    found = thresholds_by_feature(forest)
    assert sorted(found) == [0, 1, 2]
    assert len(found[2]) == 0
    ranges = threshold_ranges(forest)
    for feature in (0, 1):
        own = splits.Split[splits.Feature == f"f{feature}"].to_numpy(np.float32)
        np.testing.assert_array_equal(found[feature], np.unique(own))
        np.testing.assert_array_equal(ranges[feature], [own.min(), own.max()])
    np.testing.assert_array_equal(ranges[2:], [[-np.inf, np.inf], [np.nan, np.nan]])
