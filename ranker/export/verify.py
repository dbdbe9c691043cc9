"""Whether onnxruntime scores an exported model as XGBoost scores the original; and servers load it.

The truth is XGBoost's own `predict`. Rows with an infinite value are the
exception: `predict` refuses them, so they are compared with `inplace_predict`,
which takes them and sums as `predict` does, except for dart, whose weights it
rounds elsewhere. dart is not tried on infinite values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from ranker.engine.runtime import onnxruntime as ort
from ranker.errors import ModelError
from ranker.export.onnx_writer import INPUT, OUTPUT
from ranker.export.probes import Rows, probe_rows, with_infinities
from ranker.export.xgboost_model import XGBoostModel
from ranker.forest.onnx import OnnxFile
from ranker.model import Model, ModelFile

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        rows: how many were compared.
        max_difference: the largest |onnxruntime - XGBoost|.
        max_relative_difference: that over the range of XGBoost's scores, for a
            ranking depends on their differences and not on where zero is.
    """

    rows: int
    max_difference: float
    max_relative_difference: float


def compare(onnx_file: bytes, model: XGBoostModel, *, probability: bool) -> Comparison:
    """Scores rows with both and compares.

    Args:
        onnx_file: the exported model.
        model: the original.
        probability: whether the export's scores are probabilities.
    """
    rows = probe_rows(model)
    want = _predict(model, rows, probability)
    if not model.dart:
        infinite = with_infinities(rows[:256])
        want = np.concatenate((want, _inplace_predict(model, infinite, probability)))
        rows = np.concatenate((rows, infinite))
    got = _run(onnx_file, rows)
    difference = float(np.nan_to_num(np.abs(got.astype(np.float64) - want), nan=np.inf).max())
    spread = float(np.ptp(want.astype(np.float64)))
    with np.errstate(divide="ignore"):
        relative = float(np.divide(difference, spread)) if difference else 0.0
    return Comparison(len(rows), difference, relative)


def refuse_unloadable(content: bytes, filename: str) -> None:
    """Reads an exported file as a server does, which has limits that onnxruntime has not.

    Args:
        content: the file, with its metadata.
        filename: what it is to be called.

    Raises:
        ModelError: it can't be loaded; says why.
    """
    try:
        Model.of(ModelFile(OnnxFile(content), filename), device="cpu")
    except ModelError as error:
        raise ModelError(
            f"no server could load the file: {error.message}; nothing was written"
        ) from error


def margins(model: XGBoostModel, rows: Rows) -> Scores:
    """XGBoost's own `predict(output_margin=True)` of finite rows, float32 [n]."""
    return _predict(model, rows, probability=False)


def _predict(model: XGBoostModel, rows: Rows, probability: bool) -> Scores:
    matrix = xgb.DMatrix(
        rows,
        feature_names=model.feature_names or None,
        feature_types=model.feature_types or None,
        enable_categorical=True,
    )
    raw = not probability or model.objective == "binary:logitraw"
    scores = model.booster.predict(
        matrix, output_margin=raw, iteration_range=(model.rounds.begin, model.rounds.end)
    )
    return _sigmoid(scores) if raw and probability else scores


def _inplace_predict(model: XGBoostModel, rows: Rows, probability: bool) -> Scores:
    raw = not probability or model.objective == "binary:logitraw"
    scores = model.booster.inplace_predict(
        rows,
        predict_type="margin" if raw else "value",
        validate_features=False,
        iteration_range=(model.rounds.begin, model.rounds.end),
    )
    return _sigmoid(scores) if raw and probability else scores


def _sigmoid(margins: Scores) -> Scores:
    # XGBoost has no probabilities for binary:logitraw to compare with.
    return (1 / (1 + np.exp(-margins.astype(np.float64)))).astype(np.float32)


def _run(onnx_file: bytes, rows: Rows) -> Scores:
    """Scores rows with onnxruntime on one thread.

    In calls of 1, 10, 100 and the remaining rows, for it has a path of its own
    for one row, and works through more in blocks of 128.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    session = ort.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    blocks = np.split(rows, (1, 11, 111)) if len(rows) > 111 else [rows]
    scores = [session.run([OUTPUT], {INPUT: block})[0][:, 0] for block in blocks]
    return np.concatenate(scores)
