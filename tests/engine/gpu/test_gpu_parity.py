"""What may run on a GPU against XGBoost's own prediction, bit for bit.

The tensor graph on onnxruntime's CPU provider, the kernel compiled for the CPU, and both on a
GPU where there is one: `-k on-gpu`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranker.engine.gpu import graph_engine as cuda
from ranker.engine.gpu.engine import load_gpu
from ranker.engine.gpu.graph_engine import CPU_PROVIDER, TensorEngine, cuda_provider
from ranker.engine.gpu.graph_tables import MAX_CODE, MAX_STEPS
from ranker.export import export_onnx
from ranker.forest import Forest
from ranker.forest.onnx import read_forest
from tests.engine.gpu.gpu_on_cpu import KernelOnCpu, needs_compiler, needs_gpu
from tests.engine.simd.simd_forests import (
    booster_of,
    categorical_stump,
    predict,
    random_forest,
    random_rows,
)

Score = Callable[[Forest, NDArray[np.float32]], NDArray[np.float32]]

SCORERS: dict[str, Score] = {
    "graph": lambda forest, rows: TensorEngine(forest, CPU_PROVIDER, max_rows=256).score([rows]),
    "kernel": lambda forest, rows: KernelOnCpu(forest).score(rows),
    "kernel-descending": lambda forest, rows: KernelOnCpu(forest, descending=True).score(rows),
    "kernel-global": lambda forest, rows: KernelOnCpu(forest, in_global=True).score(rows),
    "kernel-on-gpu": lambda forest, rows: load_gpu(forest)[0].score([rows]),
    "graph-on-gpu": lambda forest, rows: TensorEngine(forest, cuda_provider(), 256).score([rows]),
}

MARKS = dict.fromkeys(SCORERS, needs_compiler) | {
    "graph": (),
    "kernel-on-gpu": needs_gpu,
    "graph-on-gpu": pytest.mark.skipif(
        cuda.unavailable() is not None, reason=str(cuda.unavailable())
    ),
}


@pytest.fixture(scope="module", params=[pytest.param(n, marks=MARKS[n]) for n in SCORERS])
def score(request: pytest.FixtureRequest) -> Score:
    return SCORERS[request.param]


def assert_same_bits(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize(
    ("trees", "features", "leaves", "chain", "thresholds"),
    [
        pytest.param(1, 3, 8, False, 10, id="one-tree"),
        pytest.param(50, 3, 1, False, 10, id="lone-leaves"),
        pytest.param(50, 3, 2, False, 10, id="stumps"),
        pytest.param(8, 8, 16, False, 100, id="as-many-trees-as-one-sum-takes"),
        pytest.param(33, 64, 64, False, 500, id="one-tree-more-than-one-split-takes"),
        pytest.param(10, 20, 400, False, 500, id="uneven-and-deep"),
        pytest.param(10, 20, MAX_STEPS + 1, True, 500, id="chains-of-the-longest"),
        pytest.param(3, 1, 300, False, 5000, id="one-feature-many-thresholds"),
        pytest.param(20, 2000, 64, False, 50, id="2000-features"),
        pytest.param(300, 10, 4, False, 300, id="300-trees"),
    ],
)
def test_random_forests_score_as_xgboost(
    score: Score, trees: int, features: int, leaves: int, chain: bool, thresholds: int
) -> None:
    for forest, rows, want in random_cases(trees, features, leaves, chain, thresholds):
        assert_same_bits(score(forest, rows), want)


@cache
def random_cases(
    trees: int, features: int, leaves: int, chain: bool, thresholds: int
) -> list[tuple[Forest, NDArray[np.float32], NDArray[np.float32]]]:
    """Forests, delicate rows and XGBoost's scores of them; made once for all scorers."""
    rng, cases = np.random.default_rng(trees * leaves), []
    for _ in range(3):
        forest = random_forest(rng, trees, features, leaves, chain, thresholds)
        rows = random_rows(rng, 300, forest)
        cases.append((forest, rows, predict(booster_of(forest), rows)))
    return cases


CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "columns": st.integers(1, 6),
        "categories": st.sampled_from([0, 3, 40]),
        "decimals": st.integers(0, 3),
        "missing": st.sampled_from([0.0, 0.2]),
        "rounds": st.integers(1, 40),
        "parameters": st.fixed_dictionaries(
            {
                "objective": st.sampled_from(["rank:ndcg", "reg:squarederror", "binary:logitraw"]),
                "max_depth": st.integers(0, 7),
                "grow_policy": st.sampled_from(["depthwise", "lossguide"]),
                "max_leaves": st.sampled_from([2, 12]),
                "max_cat_to_onehot": st.sampled_from([1, 100]),
                "base_score": st.sampled_from([0.5, 0.9]),
                "tree_method": st.just("hist"),
                "min_child_weight": st.just(0),
                "nthread": st.just(1),
            }
        ),
    }
)


def train(case: dict) -> tuple[xgboost.Booster, NDArray[np.float32]]:
    """A small booster, and rows at its edges: equal values, NaN, unseen categories.

    No infinities, which XGBoost's categorical prediction refuses: random forests meet those.
    """
    rng = np.random.default_rng(case["seed"])
    shape = 200, case["columns"]
    rows = rng.normal(size=shape).astype(np.float32).round(case["decimals"])
    types = ["q"] * case["columns"]
    if case["categories"]:
        rows[:, -1] = rng.integers(0, case["categories"], len(rows))
        types[-1] = "c"
    rows[rng.random(shape) < case["missing"]] = np.nan
    data = xgboost.DMatrix(
        rows, rng.integers(0, 2, len(rows)), feature_types=types, enable_categorical=True
    )
    if case["parameters"]["objective"] == "rank:ndcg":
        data.set_group([20] * 10)
    booster = xgboost.train(case["parameters"], data, case["rounds"])
    edges = [0.0, -0.0, 0.5, 1.0, 2.0, -1.0, 7.0, 99.0, 1e-45, 3e38, -3e38, np.nan]
    return booster, np.vstack([rows, rng.choice(np.array(edges, np.float32), shape)])


@settings(max_examples=25, deadline=None)
@given(case=CASES)
def test_trained_boosters_score_as_xgboost(
    score: Score, case: dict, tmp_path_factory: pytest.TempPathFactory
) -> None:
    booster, rows = train(case)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(booster, path)
    data = xgboost.DMatrix(rows, feature_types=booster.feature_types, enable_categorical=True)
    want = booster.predict(data, output_margin=True)
    assert_same_bits(score(read_forest(path), rows), want)


@pytest.fixture
def forest() -> Forest:
    return random_forest(np.random.default_rng(5), 40, 6, 30)


@pytest.fixture
def rows(forest: Forest) -> NDArray[np.float32]:
    return random_rows(np.random.default_rng(6), 200, forest)


def test_base_is_added_last(score: Score, forest: Forest, rows: NDArray[np.float32]) -> None:
    based = dataclasses.replace(forest, base=np.float32(-99.5))
    want = predict(booster_of(forest), rows) + np.float32(-99.5)
    assert_same_bits(score(based, rows), want)


def test_floored_features_are_rounded_down(
    score: Score, forest: Forest, rows: NDArray[np.float32]
) -> None:
    floored = np.arange(6) % 2 == 0
    rounded = np.where(floored, np.floor(rows), rows)
    got = score(dataclasses.replace(forest, floored=floored), rows)
    assert_same_bits(got, predict(booster_of(forest), rounded))


def test_logistic_scores_are_probabilities(
    score: Score, forest: Forest, rows: NDArray[np.float32]
) -> None:
    got = score(dataclasses.replace(forest, logistic=True), rows)
    margins = predict(booster_of(forest), rows).astype(np.float64)
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-margins)), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        pytest.param(0.0, True, id="smallest-member"),
        pytest.param(-0.0, True, id="negative-zero"),
        pytest.param(MAX_CODE, True, id="largest-member"),
        pytest.param(3.0, False, id="no-member"),
        pytest.param(2.5, False, id="not-whole"),
        pytest.param(np.nextafter(np.float32(2), np.float32(3)), False, id="next-to-a-member"),
        pytest.param(-2.0, False, id="negative"),
        pytest.param(MAX_CODE + 1, False, id="beyond-the-largest"),
        pytest.param(MAX_CODE + 2, False, id="two-beyond-the-largest"),
        pytest.param(3e38, False, id="huge"),
        pytest.param(np.inf, False, id="inf"),
        pytest.param(-np.inf, False, id="negative-inf"),
    ],
)
@pytest.mark.parametrize("missing_left", [True, False])
def test_membership_is_equality(score: Score, value: float, left: bool, missing_left: bool) -> None:
    stump = categorical_stump([0, 2, MAX_CODE], missing_left)
    got = score(stump, np.array([[value], [np.nan]], np.float32))
    assert got.tolist() == [1.0 if left else 2.0, 1.0 if missing_left else 2.0]
