"""Models to measure with, rows to send, and XGBoost's own scores of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xgboost as xgb

from benchmarks.harness.requests import Request, Rows
from ranker import export_onnx

CACHE = Path("build/bench")
"""Where models are kept: training takes up to a minute."""
FEATURES = 64
SENT_ROWS = 40_000


@dataclass(frozen=True)
class Spec:
    """A model to train; `missing` is the share of the training data that is NaN."""

    name: str
    trees: int
    features: int = FEATURES
    rows: int = 8_000
    missing: float = 0.2
    parameters: Mapping[str, object] = field(default_factory=dict)


_RANKER = {"objective": "rank:ndcg", "max_depth": 6, "eta": 0.3, "seed": 3}
SERVED = Spec("served", 500, rows=40_000, missing=0.05, parameters=_RANKER)
"""What the servers serve."""


class Trained:
    """The model of a spec, from the folder if it is there already.

    Attributes:
        booster: XGBoost's own, on one thread.
        file: XGBoost's own file.
    """

    def __init__(self, spec: Spec, folder: Path = CACHE) -> None:
        self._spec = spec
        self.file = folder / f"{spec.name}-{spec.trees}.ubj"
        if not self.file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _trained(spec).save_model(self.file)
        self.booster = xgb.Booster({"nthread": 1}, model_file=self.file)

    def onnx(self, trees: int | None = None) -> Path:
        """The exported model: all trees, or the first so many."""
        trees = trees or self._spec.trees
        path = self.file.with_name(f"{self._spec.name}-{trees}.onnx")
        if not path.exists():
            export_onnx(self.booster, path, iteration_range=(0, trees))
        return path

    def scores(self, rows: Rows, trees: int | None = None) -> Rows:
        """XGBoost's own margins of rows, float32 [rows]."""
        options = {"predict_type": "margin", "validate_features": False}
        first = (0, trees or self._spec.trees)
        margins: Rows = self.booster.inplace_predict(rows, iteration_range=first, **options)
        return margins

    def requests(self, size: int, trees: int | None = None, count: int = 512) -> list[Request]:
        """Different lists of so many candidates, at most `count`, each with XGBoost's scores."""
        count = min(count, SENT_ROWS // size)
        rows = make_rows(np.random.default_rng(5), count * size, self._spec.features, 0.05)
        scores = self.scores(rows, trees)
        blocks = [slice(i * size, (i + 1) * size) for i in range(count)]
        return [Request(rows[block], scores=scores[block]) for block in blocks]


def make_rows(rng: np.random.Generator, rows: int, features: int, missing: float) -> Rows:
    """Normally distributed float32 [rows, features], a share of them NaN."""
    values = rng.standard_normal((rows, features), np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def _trained(spec: Spec) -> xgb.Booster:
    rng = np.random.default_rng(0)
    rows = make_rows(rng, spec.rows, spec.features, spec.missing)
    known = np.nan_to_num(rows)
    target = known @ rng.normal(size=spec.features) + 3 * np.sin(3 * known[:, 0]) * known[:, 1]
    matrix = xgb.DMatrix(rows, target)
    if "objective" in spec.parameters:  # it ranks
        matrix.set_label(np.digitize(target, np.quantile(target, [0.5, 0.75, 0.9, 0.97])))
        matrix.set_group([100] * (spec.rows // 100))
    parameters = {"eta": 0.05, "nthread": len(os.sched_getaffinity(0)), **spec.parameters}
    return xgb.train(parameters, matrix, spec.trees)
