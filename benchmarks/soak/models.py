"""The models of the soak, and the truth about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xgboost as xgb

from benchmarks.server import rows_and_booster
from benchmarks.soak.queries import TREES
from ranker import export_onnx


def write(folder: Path) -> list[Path]:
    """Writes rows to rank, XGBoost's own scores of them by each model, and the models.

    Returns:
        The models' files, in the order of `TREES`.
    """
    rows, booster = rows_and_booster()
    np.save(folder / "rows.npy", rows.astype("<f4"))
    for name, trees in TREES.items():
        margins = booster.predict(xgb.DMatrix(rows), output_margin=True, iteration_range=(0, trees))
        np.save(folder / f"{name}.npy", margins)
        export_onnx(booster, folder / f"{name}.onnx", iteration_range=(0, trees))
    return [folder / f"{name}.onnx" for name in TREES]
