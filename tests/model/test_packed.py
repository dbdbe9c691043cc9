"""A model that one process has prepared scores as one that is loaded from its file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from ranker.engine.simd import engine as simd
from ranker.errors import UnsupportedModelError
from ranker.export import export_onnx
from ranker.memory_file import read_into_memory
from ranker.model import Model, ModelFile
from ranker.model.packed import Packed, prepare, take_over

DATA = Path(__file__).parents[1] / "forest" / "onnx" / "data"
FILES = sorted(DATA.glob("*.onnx"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def packed_and_loaded(path: Path, engine: str, **names: str) -> Model:
    fd = read_into_memory(path, 2**31)
    packed_fd = prepare(ModelFile.inherited(fd, path), engine, "cpu", **names).write()
    try:
        return take_over(Packed.read(packed_fd), fd, engine, 1, "cpu")
    finally:
        os.close(fd)
        os.close(packed_fd)


@pytest.mark.parametrize("engine", ["auto", "onnx"])
def test_scores_are_the_same_bits(path, engine):
    expected = Model.load(path, engine, device="cpu")
    found = packed_and_loaded(path, engine)
    shape = (200, expected.features.num_features)
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(found.score(rows), expected.score(rows))
    for fact in ("name", "version", "digest", "metadata", "engine_name", "engine_reason"):
        assert repr(getattr(found, fact)) == repr(getattr(expected, fact))  # NaN equals nothing


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
def test_a_vector_engine_is_not_read_twice():
    fd = read_into_memory(DATA / "xgboost_regressor.onnx", 2**31)
    packed = prepare(ModelFile.inherited(fd, "x.onnx"), "auto", "cpu", "books", "8")
    os.close(fd)
    assert packed.layout is not None
    assert (packed.name, packed.version) == ("books", "8")


@pytest.fixture(scope="module")
def covered(tmp_path_factory) -> Path:
    """A file whose scores can be explained."""
    dice = np.random.default_rng(0)
    rows = dice.normal(size=(200, 3)).astype(np.float32)
    booster = xgb.train({"max_depth": 3}, xgb.DMatrix(rows, rows.sum(axis=1)), 5)
    path = tmp_path_factory.mktemp("covered") / "covered.onnx"
    export_onnx(booster, path)
    return path


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
@pytest.mark.parametrize("engine", ["auto", "onnx"])
def test_explanations_are_the_same_bits(covered, engine):
    rows = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    expected, found = Model.load(covered, engine), packed_and_loaded(covered, engine)
    np.testing.assert_array_equal(found.explain(rows), expected.explain(rows))
    assert found.unexplained == expected.unexplained == ""


@pytest.mark.parametrize("engine", ["auto", "onnx"])
def test_why_a_model_can_not_be_explained_is_the_same(path, engine):
    expected, found = Model.load(path, engine, device="cpu"), packed_and_loaded(path, engine)
    assert "can't explain its scores" in found.unexplained
    assert bool(found.unexplained) == bool(expected.unexplained)
    with pytest.raises(UnsupportedModelError, match="can't explain its scores"):
        found.explain(np.zeros((1, found.features.num_features)))
