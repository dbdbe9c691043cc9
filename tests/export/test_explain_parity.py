"""Explanations of exported models against XGBoost's own `pred_contribs`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings

from ranker.engine.simd import engine as simd
from ranker.export import export_onnx
from ranker.forest.onnx import read_forest
from ranker.model import Model
from tests.engine.simd.exact_shapley import exact_shapley
from tests.engine.simd.simd_forests import load_svmlight
from tests.export.test_export_parity import settings_of_training, train

pytestmark = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))

TOLERANCE = 1e-5
"""Of the scores' range."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("explain") / "model.onnx"


def check(booster: xgb.Booster, rows: np.ndarray, path: Path) -> None:
    """Exports, explains and compares."""
    best = booster.attr("best_iteration")
    matrix = xgb.DMatrix(rows, feature_types=booster.feature_types, enable_categorical=True)
    rounds = (0, 0) if best is None else (0, int(best) + 1)
    want = booster.predict(matrix, pred_contribs=True, iteration_range=rounds)
    margins = booster.predict(matrix, output_margin=True, iteration_range=rounds)
    export_onnx(booster, path)
    got = Model.load(path).explain(rows)
    # A base margin far from zero costs the scores themselves their last digits.
    largest = np.float32(np.abs(want).max() + np.abs(margins).max() + abs(base_score(booster)))
    limit = TOLERANCE * float(np.ptp(margins)) + 4 * float(np.spacing(largest))
    np.testing.assert_allclose(got, want, rtol=0, atol=limit)
    np.testing.assert_allclose(got.sum(axis=1, dtype=np.float64), margins, rtol=0, atol=limit)


def base_score(booster: xgb.Booster) -> float:
    return max(abs(float(base)) for base in np.atleast_1d(_base(booster)))


def _base(booster: xgb.Booster) -> list[float]:
    text = json.loads(booster.save_config())["learner"]["learner_model_param"]["base_score"]
    return json.loads(text) if text.startswith("[") else [float(text)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(params=settings_of_training("gbtree", categorical=False))
def test_numeric_trees_are_explained_as_by_xgboost(params, path):
    check(*train(params), path)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(params=settings_of_training("gbtree", categorical=True))
def test_categorical_trees_are_explained_as_by_xgboost(params, path):
    check(*train(params), path)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(params=settings_of_training("dart", categorical=False))
def test_dart_is_explained_as_by_xgboost(params, path):
    check(*train(params), path)


def trained_deep(depth: int, trees: int) -> tuple[xgb.Booster, np.ndarray]:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(4000, 40)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    label = np.nansum(rows[:, :20] ** 2, axis=1) + rng.normal(size=len(rows))
    parameters = {"max_depth": depth, "min_child_weight": 0, "eta": 0.5, "nthread": 1}
    return xgb.train(parameters, xgb.DMatrix(rows, label), trees), rows[:50]


def test_deep_trees_are_explained_as_by_xgboost(path):
    check(*trained_deep(12, 3), path)


def test_deeper_trees_are_explained_exactly(path):
    """Beyond some 25 splits on a path, XGBoost's float32 is no longer good for 1e-5."""
    booster, rows = trained_deep(30, 1)
    export_onnx(booster, path)
    got = Model.load(path).explain(rows[:2])
    want = [exact_shapley(read_forest(path), row) for row in rows[:2]]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.abs(booster.predict(xgb.DMatrix(rows[:2]), pred_contribs=True) - want).max() > 1e-3


def test_the_lambdarank_set_is_explained_as_by_xgboost(path):
    directory = Path(__file__).parents[3] / "shared/data/lambdarank"
    if not directory.exists():
        pytest.skip("the lambdarank data set isn't here")
    rows, relevance = load_svmlight(directory / "rank.train")
    rows[rows == 0] = np.nan
    matrix = xgb.DMatrix(rows, relevance)
    matrix.set_group(np.loadtxt(directory / "rank.train.query", dtype=int))
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 6, "nthread": 1}, matrix, 40)
    test, _ = load_svmlight(directory / "rank.test", rows.shape[1])
    check(booster, test[:100], path)
    check(booster, rows[:100], path)
