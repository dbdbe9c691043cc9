"""Versions of a model, lists to rank, and XGBoost's own scores of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xgboost as xgb

from ranker.client.ranking import Ranking
from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import publish

FEATURES = 8
LENGTHS = (1, 5, 10, 20, 20, 40, 60, 100)


class Truth:
    """Lists, and what each version of the model `books` must say of them.

    Args:
        folder: where the models are written.
        versions: their names; each is trained a little differently.
    """

    def __init__(self, folder: Path, versions: Sequence[str]) -> None:
        dice = np.random.default_rng(4)
        rows = dice.normal(size=(600, FEATURES)).astype(np.float32)
        train = xgb.DMatrix(rows, dice.integers(0, 4, len(rows)))
        train.set_group([20] * 30)
        self.lists = [dice.normal(size=(n, FEATURES)).astype(np.float32) for n in LENGTHS]
        self._folder = folder
        self._scores: dict[str, list[np.ndarray]] = {}
        for seed, version in enumerate(versions):
            settings = {"objective": "rank:ndcg", "subsample": 0.7, "nthread": 1, "seed": seed}
            booster = xgb.train(settings, train, 20)
            export_onnx(booster, folder / f"{version}.onnx", name="books", version=version)
            self._scores[version] = [
                booster.predict(xgb.DMatrix(each), output_margin=True) for each in self.lists
            ]

    def publish(self, version: str, address: str) -> None:
        """Puts a version into a repository."""
        publish(ModelFile.read(self._folder / f"{version}.onnx"), address, progress=str)

    def fault(self, index: int, answer: Ranking) -> str:
        """What is wrong with an answer for a list; empty if each score has XGBoost's bits."""
        right = self._scores[answer.version][index]
        if sorted(answer.indices) != list(range(len(right))):
            return f"list {index}: not each candidate once"
        found = np.empty_like(right)
        found[list(answer.indices)] = answer.scores
        if found.tobytes() != right.tobytes():
            return f"list {index}, version {answer.version}: not XGBoost's scores"
        if np.any(np.diff(right[list(answer.indices)]) > 0):
            return f"list {index}, version {answer.version}: not in their order"
        return ""
