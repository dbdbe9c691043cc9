"""Quality over the wire: a real learning-to-rank set, trained, exported, served and ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from ranker.client import RankerClient
from ranker.export import export_onnx
from tests.end_to_end.conftest import RunningServer

DATA = Path(__file__).parents[3] / "shared" / "data" / "lambdarank"
FEATURES = 301

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the real set is not beside the checkout")


def read(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (an absent feature is missing), grades and group sizes of a libsvm file."""
    lines = (DATA / name).read_text().splitlines()
    rows = np.full((len(lines), FEATURES), np.nan, np.float32)
    grades = np.empty(len(lines), int)
    for i, line in enumerate(lines):
        grade, *pairs = line.split()
        grades[i] = int(grade)
        for pair in pairs:
            feature, value = pair.split(":")
            rows[i, int(feature)] = value
    sizes = np.loadtxt(DATA / f"{name}.query", dtype=int)
    assert sizes.sum() == len(lines)
    return rows, grades, sizes


def ndcg_at_10(grades: np.ndarray) -> float:
    """Of grades in ranked order; 1 if there is nothing to find."""

    def dcg(ranked: np.ndarray) -> float:
        top = ranked[:10]
        return float(np.sum((2.0**top - 1) / np.log2(np.arange(2, len(top) + 2))))

    best = dcg(np.sort(grades)[::-1])
    return dcg(grades) / best if best else 1.0


def test_the_served_ndcg_is_xgboosts_exactly(transport, tmp_path):
    rows, grades, sizes = read("rank.train")
    ranker = xgb.XGBRanker(objective="rank:ndcg", n_estimators=120, max_depth=6, random_state=5)
    ranker.fit(rows, grades, group=sizes)
    path = tmp_path / "ranker.onnx"
    report = export_onnx(ranker, path)
    assert report.comparison.max_difference == 0.0
    rows, grades, sizes = read("rank.test")
    predicted = ranker.predict(rows)
    server = RunningServer(tmp_path / "log", str(path), "--transport", transport)
    try:
        served, expected = [], []
        with RankerClient(server.address, timeout=30.0) as client:
            for end, size in zip(np.cumsum(sizes), sizes, strict=True):
                query = slice(end - size, end)
                ranking = client.rank(rows[query])
                own = np.argsort(-predicted[query], kind="stable")
                np.testing.assert_array_equal(ranking.indices, own)
                np.testing.assert_array_equal(ranking.scores, predicted[query][own])
                served.append(ndcg_at_10(grades[query][ranking.indices]))
                expected.append(ndcg_at_10(grades[query][own]))
        assert served == expected
        assert np.mean(served) > 0.6  # far better than chance, so that order matters
    finally:
        server.process.kill()
        server.process.wait()
