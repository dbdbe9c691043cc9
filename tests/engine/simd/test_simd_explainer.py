"""Explanations against XGBoost's own `pred_contribs`, on every instruction path.

And against the definition of the Shapley value where XGBoost has no answer: sets
that a forest may hold and a booster can't, splits that no training row came to.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranker.engine.simd import engine as simd
from ranker.engine.simd.engine import SimdEngine
from ranker.engine.simd.explainer import Arrays, SimdExplainer
from ranker.errors import UnsupportedModelError
from ranker.forest import Forest
from tests.engine.simd.exact_shapley import exact_shapley
from tests.engine.simd.shapley_by_definition import by_definition
from tests.engine.simd.simd_forests import (
    booster_of,
    contributions,
    forest_from,
    random_forest,
    random_rows,
    random_tree,
    with_covers,
)

pytestmark = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))

TOLERANCE = 1e-5
"""Of the scores' range."""


@pytest.fixture(params=["avx512", "avx2", "portable"])
def explainer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Makes explainers that use one path."""
    if request.param not in simd.paths():
        pytest.skip(f"this machine lacks {request.param}")
    monkeypatch.setenv(simd.PATH_VARIABLE, request.param)

    def make(forest: Forest) -> SimdExplainer:
        made = SimdExplainer(forest)
        assert made.path == request.param
        return made

    return make


def finite(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows without infinities, which XGBoost's `predict` refuses."""
    return np.nan_to_num(rows, nan=np.nan, posinf=3.3e38, neginf=-3.3e38).astype(np.float32)


@pytest.mark.parametrize(
    ("trees", "features", "leaves", "chain"),
    [
        pytest.param(20, 3, 1, False, id="lone-leaves"),
        pytest.param(50, 3, 2, False, id="stumps"),
        pytest.param(20, 1, 30, False, id="one-feature-again-and-again"),
        pytest.param(30, 3, 16, False, id="few-features"),
        pytest.param(30, 64, 64, False, id="up-to-64-leaves"),
        pytest.param(5, 20, 900, False, id="uneven-of-up-to-900-leaves"),
        pytest.param(10, 5, 31, True, id="chains-of-30-on-5-features"),
        pytest.param(20, 2000, 64, False, id="2000-features"),
    ],
)
def test_random_forests_are_explained_as_by_xgboost(
    explainer: Callable, trees: int, features: int, leaves: int, chain: bool
) -> None:
    for seed in range(4):
        forest, rows, want = random_case(seed, trees, features, leaves, chain)
        made = explainer(forest)
        limit = TOLERANCE * max(1, float(np.ptp(want.sum(axis=1))))
        np.testing.assert_allclose(made.explain([rows]), want, rtol=0, atol=limit)
        for n in (1, 2, 3, 31, 32, 33):
            np.testing.assert_allclose(made.explain([rows[:n]]), want[:n], rtol=0, atol=limit)


@cache
def random_case(
    seed: int, trees: int, features: int, leaves: int, chain: bool
) -> tuple[Forest, NDArray[np.float32], NDArray[np.float32]]:
    """A forest, delicate rows and XGBoost's explanations of them; made once for all paths."""
    rng = np.random.default_rng([seed, trees, leaves, features])
    forest = with_covers(rng, random_forest(rng, trees, features, leaves, chain))
    rows = finite(random_rows(rng, 50, forest))
    return forest, rows, contributions(booster_of(forest), rows)


def test_a_row_adds_up_to_its_score(explainer: Callable) -> None:
    rng = np.random.default_rng(5)
    forest = with_covers(rng, random_forest(rng, 40, 10, 60))
    forest = dataclasses.replace(forest, base=np.float32(3.25))
    rows = random_rows(rng, 300, forest)  # infinities, too
    sums = explainer(forest).explain([rows]).sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(sums, SimdEngine(forest).score([rows]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("empty", [0.0, 0.5, 1.0])
def test_sets_and_empty_nodes_follow_the_definition(explainer: Callable, empty: float) -> None:
    for forest, rows, want in cases_with_sets(empty):
        np.testing.assert_allclose(explainer(forest).explain([rows]), want, rtol=0, atol=1e-5)


@cache
def cases_with_sets(
    empty: float,
) -> list[tuple[Forest, NDArray[np.float32], NDArray[np.float64]]]:
    """Forests, rows and the explanations by definition; made once for all paths."""
    rng, cases = np.random.default_rng([6, int(10 * empty)]), []
    for _ in range(20):
        forest = with_covers(rng, forest_with_sets(rng), empty)
        rows = rng.choice([np.nan, -1, 0, 0.5, 1, 2, 3, np.inf], (12, forest.num_features))
        rows = rows.astype(np.float32)
        cases.append((forest, rows, np.array([by_definition(forest, row) for row in rows])))
    return cases


def forest_with_sets(rng: np.random.Generator) -> Forest:
    """Small trees over 4 features; half of the splits are on a set."""
    thresholds = np.array([0, 1, 2, 3], np.float32)
    trees = [random_tree(rng, int(rng.integers(1, 14)), 4, thresholds, False) for _ in range(3)]
    for tree in trees:
        for node, left in enumerate(tree["left"]):
            if left >= 0 and rng.random() < 0.5:
                tree["members"][node] = sorted(
                    rng.choice([0, 1, 2, 3, np.inf], rng.integers(1, 4), replace=False)
                )
                tree["threshold"][node] = np.float32(0)
    return forest_from(trees, 4)


@pytest.mark.parametrize("length", [30, 100])
def test_long_paths_are_explained_exactly(explainer: Callable, length: int) -> None:
    """XGBoost computes its own in float32, which is too little for such paths."""
    forest, rows, exact = long_path(length)
    for row, want in zip(rows, exact, strict=True):
        got = explainer(forest).explain([row[None]])[0]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@cache
def long_path(length: int) -> tuple[Forest, NDArray[np.float32], list[NDArray[np.float64]]]:
    """A chain, rows and their exact explanations; made once for all paths."""
    forest = chain_on_different_features(length)
    rows = rows_along(forest)
    return forest, rows, [exact_shapley(forest, row) for row in rows]


def chain_on_different_features(length: int) -> Forest:
    thresholds = np.array([0.5], np.float32)
    tree = random_tree(np.random.default_rng(7), length + 1, 1, thresholds, chain=True)
    splits = np.flatnonzero(np.array(tree["left"]) >= 0)
    for feature, node in enumerate(splits):
        tree["feature"][node] = feature
    return with_covers(np.random.default_rng(8), forest_from([tree], length))


def rows_along(forest: Forest) -> NDArray[np.float32]:
    """Rows that leave a chain of splits at 0.5 early, late and not before its end."""
    left, feature = forest.left, forest.feature
    rows = np.random.default_rng(9).integers(0, 2, (4, forest.num_features)).astype(np.float32)
    node = 0
    while feature[node] >= 0:
        onwards = feature[left[node]] >= 0
        rows[1:, feature[node]] = 0 if onwards else 1
        node = left[node] if onwards else left[node] + 1
    rows[1, forest.num_features // 2] = 1 - rows[1, forest.num_features // 2]
    rows[2, -2] = np.nan
    return rows


@pytest.mark.parametrize("length", [100, 255, 256])
def test_long_paths_add_up(explainer: Callable, length: int) -> None:
    forest = chain_on_different_features(length)
    rows = rows_along(forest)
    got = explainer(forest).explain([rows])
    np.testing.assert_allclose(got.sum(axis=1), SimdEngine(forest).score([rows]), atol=1e-5)


def test_too_long_paths_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="more than 256 different features on a path"):
        SimdExplainer(chain_on_different_features(257))


def test_a_forest_without_covers_is_refused() -> None:
    forest = random_forest(np.random.default_rng(1), 3, 3, 8)
    with pytest.raises(UnsupportedModelError, match=r"no node covers.*ranker export"):
        SimdExplainer(forest)


def test_blocks_of_any_size_and_alignment_are_one_batch(explainer: Callable) -> None:
    rng = np.random.default_rng(4)
    forest = with_covers(rng, random_forest(rng, 5, 7, 20))
    rows = random_rows(rng, 200, forest)
    made = explainer(forest)
    want = made.explain([rows])
    blocks, begin = [], 0
    while begin < len(rows):
        size = min(int(rng.choice([0, 1, 2, 10, 31, 32, 33])), len(rows) - begin)
        memory = bytearray(rows[begin : begin + size].nbytes + 64)
        block = np.frombuffer(memory, np.float32, size * 7, int(rng.integers(64)))
        block = block.reshape(size, 7)
        block[:] = rows[begin : begin + size]
        blocks.append(block)
        begin += size
    np.testing.assert_allclose(made.explain(blocks), want, rtol=0, atol=1e-6)


def test_no_rows_give_no_explanations(explainer: Callable) -> None:
    rng = np.random.default_rng(4)
    made = explainer(with_covers(rng, random_forest(rng, 5, 7, 20)))
    assert made.explain([]).shape == (0, 8)
    assert made.explain([np.zeros((0, 7), np.float32)] * 2).shape == (0, 8)


def test_calls_at_once_do_not_mix(explainer: Callable) -> None:
    rng = np.random.default_rng(4)
    forest = with_covers(rng, random_forest(rng, 20, 7, 40))
    rows = random_rows(rng, 400, forest)
    made = explainer(forest)
    want = made.explain([rows])
    begins = range(0, 300, 7)
    with ThreadPoolExecutor(4) as callers:
        found = callers.map(lambda begin: made.explain([rows[begin : begin + 100]]), begins)
        for begin, got in zip(begins, found, strict=True):
            np.testing.assert_allclose(got, want[begin : begin + 100], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(np.zeros((2, 6), np.float32), id="too-narrow"),
        pytest.param(np.zeros((2, 7), np.float64), id="doubles"),
        pytest.param(np.zeros(7, np.float32), id="one-dimension"),
        pytest.param(np.zeros((2, 14), np.float32)[:, ::2], id="strided"),
    ],
)
def test_wrong_blocks_are_refused(explainer: Callable, block: NDArray) -> None:
    rng = np.random.default_rng(4)
    made = explainer(with_covers(rng, random_forest(rng, 5, 7, 20)))
    with pytest.raises((ValueError, BufferError)):
        made.explain([np.zeros((1, 7), np.float32), block])


def arrays() -> Arrays:
    rng = np.random.default_rng(11)
    return Arrays.of(with_covers(rng, forest_with_sets(rng)))


def kernel(changed: Arrays, path: str = "portable") -> object:
    return simd.extension().Explainer(changed, path)


def with_entry(of: Arrays, name: str, place: int, value: object) -> Arrays:
    array = getattr(of, name).copy()
    array[place % len(array)] = value
    return dataclasses.replace(of, **{name: array})


@pytest.mark.parametrize(
    ("name", "place", "value", "problem"),
    [
        pytest.param("roots", 0, 1, "a root", id="first-root"),
        pytest.param("roots", -1, -5, "a root", id="negative-root"),
        pytest.param("roots", -1, 1 << 20, "a root", id="root-beyond-the-nodes"),
        pytest.param("feature", 0, 4, "a feature", id="feature-beyond-the-row"),
        pytest.param("feature", 0, -2, "a feature", id="negative-feature"),
        pytest.param("left", 0, 1 << 20, "a left child", id="child-beyond-the-nodes"),
        pytest.param("left", 0, 0, "a left child", id="its-own-child"),
        pytest.param("left", 0, -1, "a left child", id="no-child"),
        pytest.param("members_end", -1, 1 << 20, "a set", id="set-beyond-the-members"),
        pytest.param("members_begin", -1, -1, "a set", id="set-before-the-members"),
        pytest.param("threshold", 0, np.nan, "a threshold", id="threshold-that-is-nan"),
        pytest.param("threshold", -1, np.inf, "a threshold", id="infinite-leaf"),
        pytest.param("cover", 0, -1, "a cover", id="negative-cover"),
        pytest.param("cover", -1, np.inf, "a cover", id="infinite-cover"),
    ],
)
def test_forests_out_of_bounds_are_refused(
    name: str, place: int, value: object, problem: str
) -> None:
    kernel(arrays())
    with pytest.raises(ValueError, match=f"forest: ({problem})"):
        kernel(with_entry(arrays(), name, place, value))


def test_nodes_without_a_root_are_refused() -> None:
    with pytest.raises(ValueError, match="forest: a root is out of bounds"):
        kernel(dataclasses.replace(arrays(), roots=np.empty(0, np.int32)))


def test_a_node_with_two_parents_is_refused() -> None:
    tree = {
        "left": [1, 3, 5, -1, -1, -1, -1],
        "right": [2, 4, 6, -1, -1, -1, -1],
        "feature": [0, 0, 0, -1, -1, -1, -1],
        "threshold": [0.0] * 7,
        "missing_left": [False] * 7,
        "members": [[]] * 7,
    }
    forest = Arrays.of(with_covers(np.random.default_rng(1), forest_from([tree], 1)))
    kernel(forest)
    with pytest.raises(ValueError, match="forest: a node has two parents"):
        kernel(with_entry(forest, "left", 1, 2))
    with pytest.raises(ValueError, match="forest: no root leads to a node"):
        kernel(with_entry(forest, "left", 0, 3))


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Arrays) if "NDArray" in str(field.type)]
)
def test_arrays_of_wrong_length_or_type_are_refused(name: str) -> None:
    array: NDArray = getattr(arrays(), name)
    if name not in ("roots", "members"):
        with pytest.raises(ValueError, match="forest"):
            kernel(dataclasses.replace(arrays(), **{name: np.append(array, array[:1])}))
    with pytest.raises(ValueError, match=rf"forest\.{name}: wrong item size"):
        kernel(dataclasses.replace(arrays(), **{name: array.astype(np.complex128)}))


NUMBERS = (-(2**31), -2, -1, 0, 1, 2, 3, 5, 8, 2**31 - 1, np.inf, -np.inf, np.nan, 1e-45, 3e38)


@settings(max_examples=500, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from([f.name for f in dataclasses.fields(Arrays) if "NDA" in str(f.type)]),
            st.integers(0, 200),
            st.one_of(st.sampled_from(NUMBERS), st.integers(0, 40)),
        ),
        min_size=1,
        max_size=4,
    ),
    path=st.sampled_from(simd.paths() or ["portable"]),
)
def test_damaged_forests_are_refused_or_walked_within_bounds(
    changes: list[tuple[str, int, float]], path: str
) -> None:
    """What goes beyond an array shows under `make test-sanitize`."""
    damaged = arrays()
    for name, place, value in changes:
        kind = getattr(damaged, name).dtype
        whole = int(np.clip(value, -(2**31), 2**31 - 1)) if np.isfinite(value) else 0
        cast = np.float32(value) if kind.kind == "f" else np.int64(whole).astype(kind)
        damaged = with_entry(damaged, name, place, cast)
    try:
        made = kernel(damaged, path)
    except ValueError:
        return
    rows = np.array(list(itertools.product([np.nan, 0, 3], repeat=4)), np.float32)
    made.explain([rows], np.empty((len(rows), 5), np.float32))


def test_unknown_path_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of paths"):
        kernel(arrays(), "mmx")


def test_a_result_of_the_wrong_size_is_refused() -> None:
    made = kernel(arrays())
    with pytest.raises(ValueError, match="contributions: expected"):
        made.explain([np.zeros((2, 4), np.float32)], np.empty((2, 4), np.float32))
