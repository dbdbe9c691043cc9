"""A running server with a model that has the features of the demo, for the examples to ask."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from demo.world import FEATURES
from ranker.export import export_onnx
from tests.end_to_end.conftest import RunningServer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

BOOKS = {
    "The Salt Orchard": {"genre_affinity": 0.48, "recency_days": 35, "completion_rate": 0.71},
    "Letters from Pine Station": {"genre_affinity": 0.32, "recency_days": 412},
    "Moss Country": {"recency_days": 3, "completion_rate": 0.64},
    "The Copper Roads": {"genre_affinity": 0.05, "recency_days": 1200, "completion_rate": 0.52},
}
"""What the examples send."""
READER = {"reader_age_days": 812, "hour_of_day": 20}


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> tuple[xgb.Booster, Path]:
    """A ranker of the features that the examples send, and its file."""
    random = np.random.default_rng(9)
    rows = random.random((3000, len(FEATURES)), dtype=np.float32)
    rows[:, FEATURES.index("recency_days")] *= 2000
    rows[random.random(rows.shape) < 0.3] = np.nan
    used = [FEATURES.index(name) for name in next(iter(BOOKS.values()))]
    liking = np.nansum(rows[:, used] * [3, -0.001, 2], axis=1) + random.random(3000)
    grades = np.digitize(liking, np.quantile(liking, [0.3, 0.6, 0.9]))
    data = xgb.DMatrix(rows, grades, feature_names=list(FEATURES))
    data.set_group([30] * 100)
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 4, "seed": 1}, data, 40)
    path = tmp_path_factory.mktemp("books") / "books.onnx"
    export_onnx(booster, path, name="books")
    return booster, path


@pytest.fixture(scope="session")
def server(model, tmp_path_factory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("server") / "log", str(model[1]))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def score(model) -> Callable[..., np.ndarray]:
    """XGBoost's own scores of books, by what is known of each."""

    def score(*books: dict[str, float]) -> np.ndarray:
        rows = [[book.get(name, np.nan) for name in FEATURES] for book in books]
        matrix = xgb.DMatrix(np.array(rows, np.float32), feature_names=list(FEATURES))
        return model[0].predict(matrix, output_margin=True)

    return score


@pytest.fixture(scope="session")
def best_three(score) -> list[tuple[str, str]]:
    """The score and title of the best three of `BOOKS` for `READER`, as the examples print them."""
    scores = score(*({**book, **READER} for book in BOOKS.values()))
    titles = list(BOOKS)
    best = np.argsort(-scores, kind="stable")[:3]
    assert len(set(scores[best])) == 3
    assert best.tolist() != [0, 1, 2], "the order of retrieval would pass"
    return [(f"{scores[index]:.4f}", titles[index]) for index in best]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a program prints; fails with all that it says, if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert not done.stderr, done.stderr
    return done.stdout


def run_python(*arguments: str | Path) -> str:
    return run(sys.executable, *arguments)


def printed(text: str) -> list[tuple[str, str]]:
    """The lines of a score and a title."""
    return re.findall(r"^ *(-?\d+\.\d{4})  (.+)$", text, re.MULTILINE)
