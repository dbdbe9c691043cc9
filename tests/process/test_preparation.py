"""The process that reads models: what it says of those that it can't read, and its niceness."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import xgboost as xgb

from ranker.export import export_onnx
from ranker.process.preparation import NICENESS, Preparation
from ranker.process.settings import Settings
from ranker.repository.wanted import Wanted, WantedModel

NAMES = [f"feature_{number}" for number in range(4)]


@pytest.fixture(scope="module")
def booster() -> xgb.Booster:
    rows = np.random.default_rng(2).normal(size=(40, len(NAMES)))
    train = xgb.DMatrix(rows, np.arange(40) % 3, feature_names=NAMES)
    return xgb.train({"max_depth": 2}, train, 2)


def failure(path: Path, **settings: object) -> str | None:
    """Why the model can't be served; None if it can."""
    wanted = Wanted((WantedModel(str(path)),))
    preparation = Preparation(wanted, (), Settings((str(path),), device="cpu", **settings))
    limit = time.monotonic() + 60
    while not preparation.done:
        assert time.monotonic() < limit
        time.sleep(0.01)
        preparation.look()
    preparation.close()
    return preparation.failure


@pytest.mark.parametrize(
    ("filename", "advice"),
    [
        pytest.param("books.ubj", "ranker export {path} -o {folder}/books.onnx", id="xgboost"),
        pytest.param("books.pkl", "ranker.export_onnx(model, 'model.onnx')", id="pickle"),
        pytest.param("absent.onnx", "can't be read: No such file or directory", id="absent"),
        pytest.param("empty.onnx", "no IR version or no operators in it", id="empty"),
        pytest.param("text.onnx", "or a truncated one: protobuf can't parse it", id="text"),
    ],
)
def test_of_what_is_no_onnx_file_it_says_what_to_do(booster, tmp_path, filename, advice):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_bytes(b"not a model" * 50)
    booster.save_model(tmp_path / "books.ubj")
    (tmp_path / "books.pkl").write_bytes(pickle.dumps(booster))
    path = tmp_path / filename
    said = failure(path)
    assert said is not None
    assert said.startswith(f"{filename}: ")
    assert said.endswith(advice.format(path=path, folder=tmp_path))
    assert "\n" not in said


def test_a_feature_to_leave_out_of_the_log_is_one_of_the_model(booster, tmp_path):
    path = tmp_path / "books.onnx"
    export_onnx(booster, path, name="books", version="7")
    log = str(tmp_path / "log")
    assert failure(path, log_rankings=log, log_exclude_feature=("feature_3",)) is None
    misspelt = failure(path, log_rankings=log, log_exclude_feature=("featur_3",))
    assert misspelt is not None
    assert misspelt.startswith(
        "--log-exclude-feature: no feature 'featur_3' (did you mean 'feature_3'?) in books@7"
    )


@pytest.mark.parametrize(
    ("known", "more"), [((), 0), (("books@1@00",), NICENESS)], ids=["none-serves", "others-do"]
)
def test_it_is_nice_to_workers_that_serve(known, more):
    preparation = Preparation(Wanted(()), known, Settings(models=()))
    try:
        process = psutil.Process(preparation._child.pid)
        assert process.nice() == psutil.Process().nice() + more
        while not preparation.done:
            preparation.look()
        assert preparation.failure is None
    finally:
        preparation.close()
