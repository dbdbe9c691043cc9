"""Engines in this process: ours, and those that they are measured against.

onnxruntime and xgboost are always there; `pip install nvforest-cu12` brings the library behind
Triton's FIL backend (with 3 GB of CUDA libraries; it runs on the CPU, too).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import xgboost as xgb

from benchmarks.harness.data import Trained
from benchmarks.harness.requests import Rows
from ranker.engine.runtime import onnxruntime
from ranker.engine.simd import engine as simd
from ranker.engine.simd.engine import PATH_VARIABLE

Score = Callable[[Rows], Any]
"""Float32 [n, features] to [n], in the host's memory."""


def of_one_block(score: Callable[[list[Rows]], Any]) -> Score:
    """Takes one block of rows where an engine takes several."""
    return lambda rows: score([rows])


def on_paths(score: Callable[[], Callable[[list[Rows]], Any]]) -> dict[str, Score]:
    """What is made on every instruction path that this machine has, by the path's name."""
    made = dict[str, Score]()
    for name in simd.paths():
        os.environ[PATH_VARIABLE] = name
        made[name] = of_one_block(score())
    return made


def by_onnxruntime(trained: Trained) -> Score:
    """On one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(trained.onnx(), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows})[0][:, 0]


def by_xgboost(trained: Trained, gpu: int | None = None) -> Score:
    """On one thread, or a GPU."""
    booster, to_device = xgb.Booster(model_file=trained.file), np.asarray
    booster.set_param({"device": "cpu" if gpu is None else f"cuda:{gpu}", "nthread": 1})
    if gpu is not None and find_spec("cupy"):
        to_device = importlib.import_module("cupy").asarray
    options = {"predict_type": "margin", "validate_features": False}
    return lambda rows: on_host(booster.inplace_predict(to_device(rows), **options))


def by_nvforest(trained: Trained, gpu: int | None = None) -> Score:
    """On one thread, or a GPU; it tunes itself to each batch size when it first sees one."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when the library is first loaded
    options = {"device": "cpu" if gpu is None else "gpu", "device_id": gpu, "precision": "single"}
    model = importlib.import_module("nvforest").load_model(trained.file, **options)
    tuned: dict[int, Any] = {}

    def score(rows: Rows) -> Any:
        if len(rows) not in tuned:
            tuned[len(rows)] = model.optimize(data=np.stack([rows] * 8))
        return on_host(tuned[len(rows)].predict(rows)).reshape(len(rows))

    return score


PEERS: dict[str, Callable[[Trained], Score]] = {
    "onnxruntime": by_onnxruntime,
    "xgboost": by_xgboost,
    "nvforest": by_nvforest,
}
"""By the name of their module."""


def on_host(scores: Any) -> Any:
    """Scores in the host's memory: CuPy's arrays, which may not be done yet, are fetched."""
    return scores.get() if hasattr(scores, "get") else scores
