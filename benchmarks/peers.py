"""The engines that ours are measured against: those that are installed, on one thread each.

onnxruntime and xgboost are always there. `pip install tl2cgen treelite` brings a
compiler of trees, `pip install nvforest-cu12` the library behind Triton's FIL
backend (with 3 GB of CUDA libraries; it runs here on the CPU and needs no GPU).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import xgboost as xgb

from ranker.engine.api import Rows, Scores
from ranker.engine.runtime import onnxruntime

Score = Callable[[Rows], Scores]


def load_peers(booster: xgb.Booster, directory: Path, name: str) -> dict[str, Score]:
    """Every installed peer with the model of that name, by its title.

    Args:
        booster: the model.
        directory: holds it as `NAME.onnx` and `NAME.ubj`; compiled models are kept there.
        name: the model's.
    """
    peers = {"onnxruntime": _onnxruntime(directory / f"{name}.onnx"), "xgboost": _xgboost(booster)}
    if find_spec("nvforest"):
        peers["nvforest"] = _nvforest(directory / f"{name}.ubj")
    if find_spec("tl2cgen") and find_spec("treelite"):
        peers["tl2cgen"] = _tl2cgen(directory / f"{name}.ubj")
    return peers


def versions() -> str:
    """Names and versions of what is installed."""
    found = []
    for package in ("onnxruntime", "xgboost", "xgboost-cpu", "nvforest-cu12", "tl2cgen"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _onnxruntime(path: Path) -> Score:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows})[0][:, 0]


def _xgboost(booster: xgb.Booster) -> Score:
    booster.set_param({"nthread": 1})
    return lambda rows: booster.inplace_predict(
        rows, predict_type="margin", validate_features=False
    )


def _nvforest(path: Path) -> Score:
    os.environ["OMP_NUM_THREADS"] = "1"  # read when the library is first loaded
    import nvforest

    model = nvforest.load_model(path, model_type="xgboost_ubj", device="cpu", precision="single")
    return lambda rows: model.predict(rows).reshape(len(rows))


def _tl2cgen(path: Path) -> Score:
    import tl2cgen
    import treelite

    library = path.with_suffix(".so")
    if not library.exists():
        model = treelite.frontend.load_xgboost_model(path)
        # In one piece, the compiler takes hours over a large model.
        tl2cgen.export_lib(model, "gcc", library, params={"parallel_comp": 32}, nthread=1)
    predictor = tl2cgen.Predictor(library, nthread=1)

    def score(rows: Rows) -> Scores:
        matrix = tl2cgen.DMatrix(rows, dtype="float32", missing=np.nan)
        scores: Scores = predictor.predict(matrix, pred_margin=True)
        return scores.reshape(len(rows))

    return score
