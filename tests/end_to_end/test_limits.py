"""Limits that are larger than anything that gRPC can send."""

from __future__ import annotations

import numpy as np
import xgboost as xgb

from ranker.client import RankerClient
from ranker.export import export_onnx
from tests.waiting import PATIENCE


def test_millions_of_candidates_and_forty_thousand_features(start, truth, tmp_path):
    rows = np.random.default_rng(3).normal(size=(40, 40_000)).astype(np.float32)
    train = xgb.DMatrix(rows, np.arange(40) % 4)
    train.set_group([20, 20])
    # Exact: to sketch so many features takes longer than to train.
    settings = {"objective": "rank:ndcg", "max_depth": 2, "tree_method": "exact", "nthread": 1}
    booster = xgb.train(settings, train, 2)
    path = tmp_path / "wide.onnx"
    export_onnx(booster, path, name="wide")
    server = start(str(path), "--max-request-rows", "5000000")
    with RankerClient(server.address, timeout=PATIENCE) as client:
        order = client.rank(truth.rows, timeout=30.0).indices
        wide = client.rank(rows, model="wide", timeout=30.0).indices
    np.testing.assert_array_equal(order, np.argsort(-truth.scores(truth.rows), kind="stable"))
    expected = np.argsort(-booster.predict(xgb.DMatrix(rows)), kind="stable")
    np.testing.assert_array_equal(wide, expected)
    assert server.stop() == 0
