from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import Publication, publish


def make_model(folder: Path, seed: int = 0, version: str = "") -> Path:
    """An exported model; another one for another seed."""
    rows = np.random.default_rng(seed).normal(size=(60, 3))
    with xgb.config_context(nthread=1):
        booster = xgb.train({"max_depth": 2}, xgb.DMatrix(rows, rows[:, 0]), 3)
        path = folder / f"books-{seed}-{version}.onnx"
        export_onnx(booster, path, version=version)
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> list[ModelFile]:
    """Three models without versions of their own."""
    folder = tmp_path_factory.mktemp("models")
    return [ModelFile.read(make_model(folder, seed)) for seed in range(3)]


@pytest.fixture
def put(models) -> Callable[..., Publication]:
    """Publishes the model of a number, without a word."""

    def put(destination: object, version: str = "", number: int = 0) -> Publication:
        return publish(models[number], str(destination), version, progress=lambda _: None)

    return put
