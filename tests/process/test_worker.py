"""What a worker loads, and what it puts on record."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from ranker.engine.simd import engine as simd
from ranker.errors import ModelError
from ranker.memory_file import read_into_memory
from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import Layout
from ranker.metrics.recorder import Recorder
from ranker.metrics.snapshot import snapshot
from ranker.model import Model
from ranker.process.link import Link
from ranker.process.settings import Settings
from ranker.process.worker import load_models

TREES = Path(__file__).parents[1] / "forest" / "onnx" / "data" / "xgboost_regressor.onnx"


@pytest.fixture
def aggregates() -> Aggregates:
    return Aggregates.create(Layout(1, ("/a.B/C",)))


def load(aggregates: Aggregates, path: Path, **settings: str) -> None:
    fd = read_into_memory(path, 2**31)
    recorder = Recorder(aggregates)
    try:
        load_models(Settings((str(path),), device="cpu", **settings), recorder, [fd])
    finally:
        recorder.close()
        os.close(fd)


def infos(aggregates: Aggregates, metric) -> list[tuple[str, ...]]:
    families = {family.metric: family.samples for family in snapshot(aggregates)}
    return [sample.labels for sample in families[metric]]


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
def test_a_model_is_on_record_with_its_engine(aggregates):
    load(aggregates, TREES)
    [labels] = infos(aggregates, catalogue.MODEL_INFO)
    assert labels[:3] == ("xgboost_regressor", "1", "simd")
    assert infos(aggregates, catalogue.GPU_INFO) == []


def test_the_gpu_is_on_record_if_one_is_used(aggregates, monkeypatch):
    of = Model.of

    def on_gpu(*arguments):
        model = of(*arguments)
        model.engine.gpu = "0000:1B:00.0"
        return model

    monkeypatch.setattr(Model, "of", on_gpu)
    load(aggregates, TREES)
    assert infos(aggregates, catalogue.GPU_INFO) == [("0000:1B:00.0",)]


def test_an_error_names_the_file(aggregates, tmp_path):
    path = tmp_path / "books.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"^books\.onnx: not an ONNX file"):
        load(aggregates, path)


@pytest.mark.parametrize("heard", [True, False])
def test_a_process_gets_a_signal_once_its_supervisor_is_gone(monkeypatch, heard):
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: signals.append(arguments))
    ours, theirs = socket.socketpair()
    link = Link(theirs.detach())
    link.ready({})
    if heard:
        ours.recv(64)
    ours.close()
    link._wait()
    assert signals == [(os.getpid(), signal.SIGTERM)]
