"""Limits that are larger than anything that gRPC can send."""

from __future__ import annotations

import numpy as np
import xgboost as xgb

from ranker.client import RankerClient
from ranker.export import export_onnx
from tests.end_to_end.conftest import RunningServer


def test_a_limit_of_millions_of_candidates(start, truth):
    server = start("--max-request-rows", "5000000")
    with RankerClient(server.address) as client:
        order = client.rank(truth.rows, timeout=30.0).indices
    np.testing.assert_array_equal(order, np.argsort(-truth.scores(truth.rows), kind="stable"))


def test_a_model_of_forty_thousand_features(tmp_path):
    rows = np.random.default_rng(3).normal(size=(40, 40_000)).astype(np.float32)
    train = xgb.DMatrix(rows, np.arange(40) % 4)
    train.set_group([20, 20])
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 2, "nthread": 1}, train, 2)
    path = tmp_path / "wide.onnx"
    export_onnx(booster, path)
    server = RunningServer(tmp_path / "server.log", str(path))
    try:
        with RankerClient(server.address) as client:
            order = client.rank(rows, timeout=30.0).indices
        expected = np.argsort(-booster.predict(xgb.DMatrix(rows)), kind="stable")
        np.testing.assert_array_equal(order, expected)
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
