from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from loadtests.local_server import LocalServer, local_server
from ranker.export import export_onnx


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    random = np.random.default_rng(3)
    rows = random.normal(size=(1000, 16)).astype(np.float32)
    data = xgb.DMatrix(rows, (rows[:, 0] > 0).astype(int))
    data.set_group([50] * 20)
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 4}, data, 20)
    path = tmp_path_factory.mktemp("model") / "books.onnx"
    export_onnx(booster, path, name="books", version="3")
    return path


@pytest.fixture(scope="session")
def server(model, tmp_path_factory) -> Iterator[LocalServer]:
    with local_server(model, tmp_path_factory.mktemp("server") / "log") as running:
        yield running
