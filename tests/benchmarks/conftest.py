from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from benchmarks.harness.launch import RankerServer
from ranker.export import export_onnx


@pytest.fixture(scope="session")
def booster() -> xgb.Booster:
    random = np.random.default_rng(3)
    rows = random.normal(size=(1000, 16)).astype(np.float32)
    data = xgb.DMatrix(rows, (rows[:, 0] > 0).astype(int))
    data.set_group([50] * 20)
    return xgb.train({"objective": "rank:ndcg", "max_depth": 4}, data, 20)


@pytest.fixture(scope="session")
def model(booster, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "books.onnx"
    export_onnx(booster, path, name="books", version="3")
    return path


@pytest.fixture(scope="session")
def server(model) -> Iterator[RankerServer]:
    with RankerServer(str(model)) as running:
        yield running
