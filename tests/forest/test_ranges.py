"""The thresholds of each feature: XGBoost's own."""

from __future__ import annotations

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
