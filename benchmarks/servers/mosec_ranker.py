"""A ranking server made with mosec, which batches. Its arguments are mosec's own.

It runs in a Python environment of its own. PORT, MODEL, TREES and FEATURES are variables, as mosec
starts further processes without arguments. A request's body is its rows, float32 [n, FEATURES];
the answer is the order, int32 [n], and the scores in that order, float32 [n].
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xgboost as xgb
from mosec import Server, Worker

BATCH, WAIT_MS = 32, 1
"""Lists that a batch waits for, and milliseconds at most."""


class Ranker(Worker):  # type: ignore[misc]
    """Scores what waits as one batch, on one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._booster = xgb.Booster(model_file=os.environ["MODEL"])[: int(os.environ["TREES"])]
        self._booster.set_param({"nthread": 1})

    def deserialize(self, data: bytes) -> Any:
        """A body's rows."""
        return np.frombuffer(data, "<f4").reshape(-1, int(os.environ["FEATURES"]))

    def serialize(self, data: bytes) -> bytes:
        """An answer's body."""
        return data

    def forward(self, data: list[Any]) -> list[bytes]:
        """Ranks each list of a batch."""
        scores = self._booster.inplace_predict(np.concatenate(data), predict_type="margin")
        answers = []
        for own in np.split(scores, np.cumsum([len(rows) for rows in data])[:-1]):
            order = np.argsort(-own, kind="stable")
            answers.append(order.astype("<i4").tobytes() + own[order].tobytes())
        return answers


if __name__ == "__main__":
    print(f"listening on 127.0.0.1:{os.environ['PORT']}", flush=True)
    server = Server()
    server.append_worker(Ranker, num=1, max_batch_size=BATCH, max_wait_time=WAIT_MS)
    server.run()
