from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import xgboost as xgb
from numpy.typing import NDArray

Score = Callable[[Path, NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # The models are tiny: starting threads would take most of the time.
    with xgb.config_context(nthread=1):
        yield


@pytest.fixture(scope="session")
def score() -> Score:
    """Scores rows with onnxruntime on the written file, on one thread."""

    def run(path: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {"features": rows})
        assert scores.dtype == np.float32
        assert scores.shape == (len(rows), 1)
        return scores[:, 0]

    return run
