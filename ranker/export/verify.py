"""Whether onnxruntime scores an exported model as XGBoost scores the original.

The truth is XGBoost's own `predict`. Rows with an infinite value are the
exception: `predict` refuses them, so they are compared with `inplace_predict`,
which takes them and sums as `predict` does, except for dart, whose weights it
rounds elsewhere. dart is not tried on infinite values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import xgboost as xgb
from numpy.typing import NDArray

from ranker.export.onnx_writer import INPUT, OUTPUT
from ranker.export.xgboost_model import MAX_CATEGORY, XGBoostModel

ROWS = 4096
"""How many rows are compared, unless there are very many features."""

_MAX_CELLS = 1 << 26
_VALUES = 512  # thresholds of a feature, or members of its sets, that rows are made from
_HUGE = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).smallest_subnormal)
_MISSING_RATES = (0.0, 0.0, 0.1, 0.5, 0.95)

Rows = NDArray[np.float32]
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
        infinite = _with_infinities(rows[: ROWS // 16])
        want = np.concatenate((want, _inplace_predict(model, infinite, probability)))
        rows = np.concatenate((rows, infinite))
    got = _run(onnx_file, rows)
    difference = float(np.nan_to_num(np.abs(got.astype(np.float64) - want), nan=np.inf).max())
    spread = float(np.ptp(want.astype(np.float64)))
    with np.errstate(divide="ignore"):
        relative = float(np.divide(difference, spread)) if difference else 0.0
    return Comparison(len(rows), difference, relative)


def probe_rows(model: XGBoostModel) -> Rows:
    """Finite rows made from the model's own splits; the same ones each time.

    A value is a threshold, its neighbour on either side or random; a code is
    in a set, out of it, beyond all sets, negative or not whole. Some rows have
    a few values missing, some half or most of them, one all.

    Returns:
        float32 [n, num_features], n at least 64.
    """
    random = np.random.default_rng(0)
    count = max(64, min(ROWS, _MAX_CELLS // model.num_features))
    thresholds, members = _split_values(model)
    rows = np.empty((count, model.num_features), np.float32)
    for feature in range(model.num_features):
        if feature in members:
            pool = _codes(members[feature], random)
        else:
            pool = _numbers(thresholds.get(feature, np.zeros(1, np.float32)), random)
        rows[:, feature] = random.choice(pool, count)
    missing = random.choice(_MISSING_RATES, (count, 1))
    missing[-1] = 1
    rows[random.random(rows.shape) < missing] = np.nan
    return rows


def _split_values(model: XGBoostModel) -> tuple[dict[int, Rows], dict[int, Rows]]:
    """Each feature's distinct thresholds, and its distinct members of sets."""
    features, values = [], []
    members: dict[int, list[Rows]] = {}
    for tree in model.trees:
        numeric = tree.left >= 0
        numeric[list(tree.members)] = False
        features.append(tree.feature[numeric])
        values.append(tree.value[numeric])
        for node, codes in tree.members.items():
            members.setdefault(int(tree.feature[node]), []).append(codes)
    feature, value = np.concatenate(features), np.concatenate(values)
    order = np.lexsort((value, feature))
    used, begins = np.unique(feature[order], return_index=True)
    thresholds = np.split(value[order], begins[1:])
    return (
        {int(f): np.unique(t) for f, t in zip(used, thresholds, strict=bool(len(used)))},
        {f: np.unique(np.concatenate(sets)) for f, sets in members.items()},
    )


def _numbers(thresholds: Rows, random: np.random.Generator) -> Rows:
    # A threshold may be infinite; a row for predict may not.
    some = np.clip(random.permutation(thresholds)[:_VALUES], -_HUGE, _HUGE)
    share = random.random(_VALUES, np.float32)
    between = share * random.choice(some, _VALUES) + (1 - share) * random.choice(some, _VALUES)
    values = (
        some,
        np.nextafter(some, np.float32(-_HUGE)),
        np.nextafter(some, np.float32(_HUGE)),
        between,
        random.normal(size=_VALUES),
        (0.0, -0.0, _TINY, -_TINY, _HUGE, -_HUGE),
    )
    return np.concatenate(values, dtype=np.float32, casting="same_kind")


def _codes(members: Rows, random: np.random.Generator) -> Rows:
    some = random.permutation(members)[:_VALUES]
    beyond = float(members[-1]) + 1
    odd = (0, -0.0, -0.5, -1, -_HUGE, beyond, beyond + 0.5, MAX_CATEGORY - 1, MAX_CATEGORY, _HUGE)
    anywhere = random.integers(0, int(beyond) + 1, _VALUES)
    return np.concatenate(
        (some, some + 0.5, some - 1, anywhere, odd), dtype=np.float32, casting="same_kind"
    )


def _with_infinities(rows: Rows) -> Rows:
    random = np.random.default_rng(1)
    rows = rows.copy()
    infinite = random.random(rows.shape) < 0.2
    rows[infinite] = random.choice((np.inf, -np.inf), int(infinite.sum()))
    return rows


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
