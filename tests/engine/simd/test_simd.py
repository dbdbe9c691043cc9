"""The simd engine against XGBoost's own prediction, bit for bit, on every instruction path."""

import ctypes
import dataclasses
import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from ranker.engine.simd import engine as simd
from ranker.engine.simd import layout
from ranker.engine.simd.engine import SimdEngine
from ranker.errors import ModelError
from ranker.forest import Forest
from tests.engine.simd.simd_forests import (
    booster_of,
    forest_from,
    forest_of,
    load_svmlight,
    predict,
    random_forest,
    random_rows,
    random_tree,
)

pytestmark = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))


@pytest.fixture(params=["avx512", "avx2", "portable"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Makes engines that use one path."""
    if request.param not in simd.paths():
        pytest.skip(f"this machine lacks {request.param}")
    monkeypatch.setenv(simd.PATH_VARIABLE, request.param)

    def make(forest: Forest, threads: int = 1) -> SimdEngine:
        made = SimdEngine(forest, threads)
        assert made.path == request.param
        return made

    return make


def same_bits(got: NDArray[np.float32], want: NDArray[np.float32]) -> bool:
    return np.array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize(
    ("trees", "features", "leaves", "chain", "thresholds"),
    [
        pytest.param(50, 3, 1, False, 10, id="lone-leaves"),
        pytest.param(50, 3, 2, False, 10, id="stumps"),
        pytest.param(30, 8, 16, False, 100, id="shallow"),
        pytest.param(30, 64, 64, False, 500, id="up-to-64-leaves"),
        pytest.param(20, 20, 90, False, 500, id="uneven-of-up-to-90-leaves"),
        pytest.param(10, 20, 190, False, 500, id="uneven-of-up-to-190-leaves"),
        pytest.param(10, 20, 900, False, 500, id="uneven-of-up-to-900-leaves"),
        pytest.param(10, 20, 31, True, 500, id="chains-of-30"),
        pytest.param(3, 1, 300, False, 5000, id="one-feature-many-thresholds"),
        pytest.param(20, 2000, 64, False, 50, id="2000-features"),
        pytest.param(3000, 10, 4, False, 300, id="3000-trees"),
    ],
)
def test_random_forests_score_as_xgboost(
    engine: Callable, trees: int, features: int, leaves: int, chain: bool, thresholds: int
) -> None:
    for seed in range(1 if trees > 1000 else 6):
        forest, rows, want = random_case(seed, trees, features, leaves, chain, thresholds)
        made = engine(forest)
        assert same_bits(made.score([rows]), want)
        for n in (1, 3, 7, 16, 33, 40, 64, 65):
            assert same_bits(made.score([rows[:n]]), want[:n])


@cache
def random_case(
    seed: int, trees: int, features: int, leaves: int, chain: bool, thresholds: int
) -> tuple[Forest, NDArray[np.float32], NDArray[np.float32]]:
    """A forest, delicate rows for it and XGBoost's scores of them; made once for all paths."""
    rng = np.random.default_rng([seed, trees, leaves])
    forest = random_forest(rng, trees, features, leaves, chain, thresholds)
    rows = random_rows(rng, 150, forest)
    return forest, rows, predict(booster_of(forest), rows)


@pytest.mark.parametrize("per_leaf", [1, 4, 16])
def test_forests_without_room_for_padding_score_as_xgboost(
    engine: Callable, monkeypatch: pytest.MonkeyPatch, per_leaf: int
) -> None:
    monkeypatch.setattr(layout, "ROOM", 0)
    monkeypatch.setattr(layout, "ROOM_PER_LEAF", per_leaf)
    for leaves, chain in ((4, False), (90, False), (31, True)):
        forest, rows, want = random_case(1, 30, 10, leaves, chain, 100)
        made = engine(forest)
        for n in (1, 33, 150):
            assert same_bits(made.score([rows[:n]]), want[:n])


@cache
def stumps(count: int) -> tuple[Forest, NDArray[np.float32], NDArray[np.float32]]:
    """A feature with so many thresholds, and rows at and next to each; and XGBoost's scores."""
    rng = np.random.default_rng(count)
    features, at = 19, 17
    thresholds = np.unique(rng.normal(size=2 * count).astype(np.float32))[:count]
    trees = [random_tree(rng, 2, 1, thresholds[[i]], False) for i in range(count)]
    for tree in trees:
        tree["feature"][0] = at
    forest = forest_from(trees, features)
    beside = [np.nextafter(thresholds, np.float32(way)) for way in (-np.inf, np.inf)]
    values = np.concatenate([thresholds, *beside, np.float32([np.nan, np.inf, -np.inf, 0])])
    rows = rng.normal(size=(len(values), features)).astype(np.float32)
    rows[:, at] = rng.permutation(values)
    return forest, rows, predict(booster_of(forest), rows)


@pytest.mark.parametrize(
    "count",
    [
        1,
        7,
        8,
        9,
        15,
        16,
        17,
        31,
        32,
        33,
        128,
        239,
        240,
        241,
        254,
        255,
        256,
        271,
        510,
        511,
        600,
        1100,
    ],
)
def test_every_threshold_divides(engine: Callable, count: int) -> None:
    forest, rows, want = stumps(count)
    made = engine(forest)
    assert same_bits(made.score([rows]), want)
    for n in (1, 15, 16, 17, 31, 32, 33, 40, 49, 64, 65, 72, 100, 127, 128, 129, 136):
        assert same_bits(made.score([rows[-n:]]), want[-n:])


@pytest.mark.parametrize("features", [1, 3, 7, 8, 9, 15, 16, 17, 40])
def test_nothing_beside_the_rows_is_read(engine: Callable, features: int) -> None:
    forest, rows, want = random_case(2, 30, features, 16, False, 100)
    made = engine(forest)
    page = mmap.PAGESIZE
    room = -(-rows.nbytes // page) * page
    memory = mmap.mmap(-1, page + room + page)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (begin, begin + page + room):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    for n in (1, 9, 15, 16, 17, 31, 32, 33, 40, 48, 49, 64, 65, 72, 100, 128, 129, len(rows)):
        for at in (page, page + room - rows[:n].nbytes):  # next to what can't be read
            block = np.frombuffer(memory, np.float32, n * features, at).reshape(n, features)
            block[:] = rows[:n]
            assert same_bits(made.score([block]), want[:n])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_thousands_of_forests_score_as_xgboost(engine: Callable, seed: int) -> None:
    rng = np.random.default_rng([9, seed])
    for _ in range(100):
        case = random_case.__wrapped__(
            int(rng.integers(1 << 30)),
            trees=int(rng.integers(1, 40)),
            features=int(rng.choice([1, 2, 10, 100, 1000])),
            leaves=int(rng.choice([1, 2, 5, 31, 64, 150, 256, 600])),
            chain=bool(rng.random() < 0.2),
            thresholds=int(rng.choice([1, 10, 300, 3000])),
        )
        forest, rows, want = case
        made = engine(forest)
        assert same_bits(made.score([rows]), want)
        n = int(rng.integers(1, len(rows)))
        assert same_bits(made.score([rows[:n], rows[n:]]), want)


@pytest.fixture(scope="module")
def trained() -> tuple[xgboost.Booster, Forest, NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3000, 24)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    target = np.nansum(rows[:, :6] ** 2, axis=1) + 100
    parameters = {"max_depth": 8, "eta": 0.1, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, target), 40)
    return booster, forest_of(booster, rows.shape[1]), rows


def test_trained_booster_scores_as_xgboost(
    engine: Callable, trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]]
) -> None:
    booster, forest, rows = trained
    want = booster.predict(xgboost.DMatrix(rows), output_margin=True)
    assert same_bits(engine(forest).score([rows]), want)


def test_blocks_of_any_size_and_alignment_are_one_batch(
    engine: Callable, trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]]
) -> None:
    booster, forest, rows = trained
    want = predict(booster, rows)
    made = engine(forest)
    rng = np.random.default_rng(4)
    for _ in range(20):
        blocks, begin = [], 0
        while begin < 300:
            size = int(rng.choice([0, 1, 2, 10, 63, 64, 65]))
            memory = bytearray(rows[begin : begin + size].nbytes + 64)
            shift = int(rng.integers(64))
            block = np.frombuffer(memory, np.float32, size * rows.shape[1], shift)
            block = block.reshape(size, rows.shape[1])
            block[:] = rows[begin : begin + size]
            blocks.append(block)
            begin += size
        assert same_bits(made.score(blocks), want[:begin])


def test_threads_change_nothing(
    engine: Callable, trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]]
) -> None:
    booster, forest, rows = trained
    made = engine(forest, threads=3)
    want = predict(booster, rows)
    assert same_bits(made.score([rows[:1], rows[1:]]), want)
    for size in (999, 1000, 1025):
        assert same_bits(made.score([rows[:size]]), want[:size])


def test_calls_at_once_do_not_mix(
    engine: Callable, trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]]
) -> None:
    booster, forest, rows = trained
    made = engine(forest, threads=2)
    want = predict(booster, rows)
    begins = [begin % (len(rows) - 1000) for begin in range(0, 4000, 7)]
    with ThreadPoolExecutor(4) as callers:
        scores = callers.map(lambda begin: made.score([rows[begin : begin + 1000]]), begins)
        for begin, got in zip(begins, scores, strict=True):
            assert same_bits(got, want[begin : begin + 1000])


@pytest.fixture(scope="module")
def categorical() -> tuple[xgboost.Booster, Forest, xgboost.DMatrix, NDArray[np.float32]]:
    rng = np.random.default_rng(6)
    rows = rng.integers(0, 40, (1000, 4)).astype(np.float32)
    rows[:, 3] = rng.normal(size=len(rows))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    target = np.isin(rows[:, 0], [1, 5, 9, 30]) * 3.0 + np.nan_to_num(rows[:, 3])
    kinds = ["c", "c", "c", "q"]
    data = xgboost.DMatrix(rows, target, feature_types=kinds, enable_categorical=True)
    booster = xgboost.train({"max_depth": 7, "max_cat_to_onehot": 2, "nthread": 1}, data, 20)
    return booster, forest_of(booster, rows.shape[1]), data, rows


def test_categories_are_members_or_not(
    engine: Callable,
    categorical: tuple[xgboost.Booster, Forest, xgboost.DMatrix, NDArray[np.float32]],
) -> None:
    booster, forest, data, rows = categorical
    assert len(forest.members) > 0
    want = booster.predict(data, output_margin=True)
    fractions = rows + np.array([0.75, 0.75, 0.75, 0], np.float32)  # rounded down before use
    made = engine(forest)
    for n in (1, 9, 32, 40, 64, len(rows)):
        assert same_bits(made.score([rows[:n]]), want[:n])
        assert same_bits(made.score([fractions[:n]]), want[:n])


def test_floored_features_may_have_thresholds(engine: Callable) -> None:
    forest, rows, _ = random_case(3, 30, 19, 16, False, 100)
    floored = np.arange(forest.num_features) % 3 > 0
    want = predict(booster_of(forest), np.where(floored, np.floor(rows), rows))
    made = engine(dataclasses.replace(forest, floored=floored))
    for n in (1, 17, 40, len(rows)):
        assert same_bits(made.score([rows[:n]]), want[:n])


def test_base_is_added_last(
    engine: Callable, trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]]
) -> None:
    booster, forest, rows = trained
    based = dataclasses.replace(forest, base=np.float32(-99.5))
    assert same_bits(engine(based).score([rows]), predict(booster, rows) + np.float32(-99.5))


def test_no_rows_give_no_scores(
    engine: Callable, trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]]
) -> None:
    _, forest, rows = trained
    made = engine(forest)
    assert len(made.score([])) == 0
    assert len(made.score([rows[:0], rows[:0]])) == 0


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(np.zeros((2, 23), np.float32), id="too-narrow"),
        pytest.param(np.zeros((2, 24), np.int32), id="integers"),
        pytest.param(np.zeros((2, 24), np.float64), id="doubles"),
        pytest.param(np.zeros(24, np.float32), id="one-dimension"),
        pytest.param(np.zeros((2, 24), ">f4"), id="big-endian"),
        pytest.param(np.zeros((2, 48), np.float32)[:, ::2], id="strided"),
    ],
)
def test_wrong_blocks_are_refused(
    engine: Callable,
    trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]],
    block: NDArray,
) -> None:
    _, forest, rows = trained
    with pytest.raises((ValueError, BufferError)):
        engine(forest).score([rows[:1], block])


@pytest.fixture(scope="module")
def lambdarank() -> tuple[Forest, NDArray[np.float32], NDArray[np.float32]]:
    """XGBoost's own example data, 300 features, mostly zeros: forest, rows, XGBoost's scores."""
    directory = Path(__file__).parents[4] / "shared/data/lambdarank"
    if not directory.exists():
        pytest.skip("the lambdarank data set isn't here")
    rows, relevance = load_svmlight(directory / "rank.train")
    ranker = xgboost.XGBRanker(n_estimators=30, max_depth=6, objective="rank:ndcg", n_jobs=1)
    ranker.fit(rows, relevance, group=np.loadtxt(directory / "rank.train.query", dtype=int))
    test, _ = load_svmlight(directory / "rank.test", rows.shape[1])
    want = ranker.predict(test, output_margin=True)
    return forest_of(ranker.get_booster(), rows.shape[1]), test, want


def test_lambdarank_set_scores_as_xgboost(
    engine: Callable, lambdarank: tuple[Forest, NDArray[np.float32], NDArray[np.float32]]
) -> None:
    forest, rows, want = lambdarank
    assert same_bits(engine(forest).score([rows]), want)


def test_logistic_forest_is_refused(
    trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]],
) -> None:
    with pytest.raises(ModelError, match="logistic"):
        SimdEngine(dataclasses.replace(trained[1], logistic=True))


def test_unknown_path_is_refused(
    trained: tuple[xgboost.Booster, Forest, NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(simd.PATH_VARIABLE, "mmx")
    with pytest.raises(ModelError, match="RANKER_SIMD=mmx: expected one of"):
        SimdEngine(trained[1])
