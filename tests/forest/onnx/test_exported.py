"""From XGBoost through our file to a Forest and the engines: XGBoost's margins, bit by bit."""

import numpy as np
import pytest
import xgboost

from ranker.engine.registry import load_engine
from ranker.engine.simd import engine as simd
from ranker.export import export_onnx
from ranker.forest import Forest
from ranker.forest.onnx import OnnxFile, read_forest
from tests.forest.onnx.onnx_models import evaluate

CODES = (3, 4)  # categorical features
TYPES = ["q", "q", "q", "c", "c"]


def training_rows(rng: np.random.Generator, n: int) -> np.ndarray:
    rows = rng.normal(size=(n, len(TYPES))).astype(np.float32)
    rows[:, CODES] = rng.integers(0, [4, 60], (n, 2))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def rows_at_the_thresholds(rng: np.random.Generator, forest: Forest) -> np.ndarray:
    """Thresholds and their neighbours; codes with fractions, and beyond what was trained on."""
    splits = forest.threshold[forest.feature >= 0]
    above, below = (np.nextafter(splits, np.float32(end)) for end in (np.inf, -np.inf))
    delicate = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf], np.float32)
    rows = rng.choice(np.concatenate([splits, above, below, delicate]), (300, len(TYPES)))
    rows[:, CODES] = rng.choice([0, 1, 2, 3, 5, 1.5, 3.999, 17, 59, 60, 1000], (300, 2))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"max_depth": 6, "max_cat_to_onehot": 1}, id="sets"),
        pytest.param({"max_depth": 3, "max_cat_to_onehot": 100}, id="one-hot"),
        pytest.param({"max_depth": 1}, id="stumps"),
        pytest.param({"max_depth": 0, "max_leaves": 40, "grow_policy": "lossguide"}, id="uneven"),
        pytest.param({"max_depth": 4, "base_score": 1e4}, id="large-base"),
        pytest.param({"max_depth": 4, "gamma": 1e9}, id="lone-leaves"),
    ],
)
def test_margins_are_xgboosts(tmp_path, parameters):
    rng = np.random.default_rng(11)
    rows = training_rows(rng, 1500)
    target = np.nan_to_num(rows[:, 0]) ** 2 + np.sin(np.nan_to_num(rows[:, 4])) * 3
    data = xgboost.DMatrix(rows, target, feature_types=TYPES, enable_categorical=True)
    booster = xgboost.train({"seed": 5, "nthread": 1, **parameters}, data, 12)
    path = tmp_path / "model.onnx"
    export_onnx(booster, path)

    forest = read_forest(path)
    tried = np.concatenate([rows[:200], rows_at_the_thresholds(rng, forest)])
    expected = booster.inplace_predict(tried, predict_type="margin")
    np.testing.assert_array_equal(evaluate(forest, tried), expected)
    for name in ["onnx"] if simd.unavailable() else ["onnx", "simd"]:
        engine, _ = load_engine(OnnxFile.read(path), name)
        np.testing.assert_array_equal(engine.score([tried]), expected, err_msg=name)
