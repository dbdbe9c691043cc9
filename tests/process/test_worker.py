"""What a worker puts on record when it starts."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from ranker.engine.runtime import onnxruntime
from ranker.metrics import catalogue as catalog
from ranker.metrics.aggregates import Aggregates, Layout
from ranker.metrics.recorder import Recorder
from ranker.model import Model
from ranker.process.worker import _outlive_not, record_start

TREES = Path(__file__).parents[1] / "forest" / "onnx" / "data" / "xgboost_regressor.onnx"


@pytest.mark.parametrize("gpu", ["", "0000:1B:00.0"])
def test_the_gpu_is_on_record_if_one_is_used(gpu: str) -> None:
    model = Model.load(TREES, device="cpu")
    if gpu:
        model.engine.gpu = gpu
    aggregates = Aggregates.private(Layout(((model.name, model.version),), ()))
    recorder = Recorder(aggregates)
    record_start(recorder, [(model, 0.5), (model, 0.5)])
    recorder.close()
    infos = {family.metric: family.samples for family in aggregates.snapshot()}
    assert [sample.labels for sample in infos[catalog.GPU_INFO]] == ([(gpu,)] if gpu else [])
    [build] = infos[catalog.BUILD_INFO]
    assert build.labels[-1] == onnxruntime.__version__


@pytest.mark.parametrize("heard", [True, False])
def test_a_worker_drains_once_its_supervisor_is_gone(
    monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: signals.append(arguments))
    ours, theirs = socket.socketpair()
    theirs.sendall(b"listening\n")
    if heard:
        ours.recv(64)
    ours.close()
    with theirs:
        _outlive_not(theirs)
    assert signals == [(os.getpid(), signal.SIGTERM)]
