"""The simd engine against XGBoost with every number of rows, and every shape of tiles and steps.

How many rows are left decides which walk they take, and how many of a vector's bytes are in use.
"""

import numpy as np
import pytest

from ranker.engine.simd import engine as simd
from ranker.engine.simd import layout
from ranker.engine.simd.layout import lay_out
from tests.engine.simd.simd_forests import (
    booster_of,
    forest_from,
    perfect_tree,
    predict,
    random_rows,
    random_tree,
)

pytestmark = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))

FEATURES, TREES, MOST_ROWS = 9, 5, 135
LOG_PLACES = (6, 7, 8)
"""Of a tree's places, where its nodes go on below the tile."""


def shape(depth: int, log_places: int) -> object:
    return pytest.param(depth, log_places, id=f"depth-{depth}-places-{log_places}")


@pytest.mark.parametrize("path", ["avx512", "avx2", "portable"])
@pytest.mark.parametrize(
    ("depth", "log_places"),
    [shape(depth, 0) for depth in range(9)]
    + [shape(depth, places) for places in LOG_PLACES for depth in range(places)],
)
def test_any_number_of_rows_scores_as_xgboost(
    monkeypatch: pytest.MonkeyPatch, path: str, depth: int, log_places: int
) -> None:
    if path not in simd.paths():
        pytest.skip(f"this machine lacks {path}")
    monkeypatch.setattr(layout, "MAX_DEPTH", depth)
    monkeypatch.setattr(layout, "PADDED_DEPTH", depth)
    rng = np.random.default_rng([depth, log_places])
    thresholds = rng.normal(size=300).astype(np.float32)
    forest = forest_from(
        [
            random_tree(rng, 5 << (log_places - 3), FEATURES, thresholds, chain=False)
            if log_places
            else perfect_tree(rng, depth, FEATURES, thresholds)
            for _ in range(TREES)
        ],
        FEATURES,
    )
    laid_out = lay_out(forest)
    assert laid_out.depth == depth
    assert laid_out.places.size == (TREES << log_places if log_places else 0)
    rows = random_rows(rng, MOST_ROWS, forest)
    want = predict(booster_of(forest), rows)
    assert simd._extension is not None
    kernel = simd._extension.Kernel(laid_out, path, 1)
    for n in range(1, MOST_ROWS + 1):
        got = np.empty(n, np.float32)
        kernel.score([rows[-n:]], got)
        assert got.tobytes() == want[-n:].tobytes(), n
