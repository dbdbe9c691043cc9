"""The engine around the tensor graph: batch sizes, threads, and refusing to run elsewhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from ranker.engine.api import EngineLostError
from ranker.engine.gpu import graph_engine as cuda
from ranker.engine.gpu.graph_engine import (
    CPU_PROVIDER,
    CudaEngine,
    TensorEngine,
    cuda_provider,
    run_sizes,
)
from ranker.errors import ModelError
from ranker.forest import Forest
from tests.engine.simd.simd_forests import booster_of, predict, random_forest, random_rows

LIMIT = 200  # so that the engine runs 64, 96, 128 or 192 rows at once
FEATURES = 9


@pytest.fixture(scope="module")
def forest() -> Forest:
    return random_forest(np.random.default_rng(1), 30, FEATURES, 40)


@pytest.fixture(scope="module")
def rows(forest: Forest) -> NDArray[np.float32]:
    return random_rows(np.random.default_rng(2), 1000, forest)


@pytest.fixture(scope="module")
def want(forest: Forest, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return predict(booster_of(forest), rows)


@pytest.fixture(scope="module")
def engine(forest: Forest) -> TensorEngine:
    return TensorEngine(forest, CPU_PROVIDER, LIMIT)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 96, 97, 128, 191, 192, 193, 384, 385, 1000])
def test_every_batch_size_scores_as_xgboost(
    engine: TensorEngine, rows: NDArray[np.float32], want: NDArray[np.float32], n: int
) -> None:
    np.testing.assert_array_equal(engine.score([rows[:n]]), want[:n])


def test_blocks_of_any_size_and_alignment_are_one_batch(
    engine: TensorEngine, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        blocks, begin = [], 0
        while begin < 600:
            size = int(rng.choice([0, 1, 2, 10, 64, 191, 193]))
            memory = bytearray(size * FEATURES * 4 + 1)
            block = np.frombuffer(memory, np.float32, size * FEATURES, 1).reshape(size, FEATURES)
            block[:] = rows[begin : begin + size]
            blocks.append(block)
            begin += size
        np.testing.assert_array_equal(engine.score(blocks), want[:begin])


def test_no_rows_give_no_scores(engine: TensorEngine, rows: NDArray[np.float32]) -> None:
    assert len(engine.score([])) == 0
    assert len(engine.score([rows[:0], rows[:0]])) == 0


def test_earlier_scores_outlive_later_batches(
    engine: TensorEngine, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    first = engine.score([rows[:64]])
    engine.score([rows[500:564]])
    np.testing.assert_array_equal(first, want[:64])


def test_threads_do_not_mix_their_batches(
    engine: TensorEngine, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    begins = [7 * i for i in range(100)]
    with ThreadPoolExecutor(4) as threads:
        scores = threads.map(lambda begin: engine.score([rows[begin : begin + 70]]), begins)
        for begin, got in zip(begins, scores, strict=True):
            np.testing.assert_array_equal(got, want[begin : begin + 70])


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(np.zeros((2, FEATURES - 1), np.float32), id="too-narrow"),
        pytest.param(np.zeros((2, FEATURES), np.float64), id="doubles"),
        pytest.param(np.zeros(FEATURES, np.float32), id="one-dimension"),
        pytest.param(np.zeros((2, FEATURES), ">f4"), id="big-endian"),
    ],
)
def test_wrong_blocks_are_refused(engine: TensorEngine, block: NDArray) -> None:
    with pytest.raises(ValueError, match=f"expected float32 \\[n, {FEATURES}\\], got"):
        engine.score([block])


def test_run_sizes_leave_at_most_a_third_of_padding() -> None:
    sizes = run_sizes(10**9)
    assert (sizes[0], sizes[-1]) == (cuda.MIN_RUN_ROWS, cuda.MAX_RUN_ROWS)
    for smaller, size in pairwise(sizes):
        assert 3 * (size - smaller - 1) < size
    assert run_sizes(200) == [64, 96, 128, 192]
    assert run_sizes(1) == [64]


def test_largest_run_is_bounded_by_memory(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(cuda, "MAX_ELEMENTS", 30 * 100)  # 100 rows of 30 trees
    shapes = []
    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type

    def record(shape: tuple[int, int], *args: object) -> onnxruntime.OrtValue:
        shapes.append(shape)
        return made(shape, *args)

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", record)
    engine = TensorEngine(forest, CPU_PROVIDER)
    assert max(shapes) == (96, FEATURES)
    np.testing.assert_array_equal(engine.score([rows]), want)


@pytest.fixture
def broken_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the runs that fail; all those on the list do."""
    broken: list[int] = []
    run = cuda.FixedBatch.run

    def run_or_fail(batch: cuda.FixedBatch) -> None:
        if batch.rows in broken:
            raise RuntimeError(f"a run of {batch.rows} failed")
        run(batch)

    monkeypatch.setattr(cuda.FixedBatch, "run", run_or_fail)
    return broken


def test_an_error_that_stays_means_that_the_engine_is_lost(
    engine: TensorEngine, rows: NDArray[np.float32], broken_runs: list[int]
) -> None:
    broken_runs += run_sizes(LIMIT)
    lost = "CPUExecutionProvider 0 is lost: a run of 192 failed"
    for _ in range(2):
        with pytest.raises(EngineLostError, match=lost):
            engine.score([rows[:150]])


def test_an_error_of_one_batch_is_told_as_it_is(
    engine: TensorEngine,
    rows: NDArray[np.float32],
    want: NDArray[np.float32],
    broken_runs: list[int],
) -> None:
    broken_runs.append(192)
    with pytest.raises(RuntimeError, match=r"^a run of 192 failed$"):
        engine.score([rows[:150]])
    np.testing.assert_array_equal(engine.score([rows[:70]]), want[:70])


without_gpu = pytest.mark.skipif(
    cuda.unavailable() is None, reason="this onnxruntime knows about GPUs"
)


@without_gpu
def test_without_the_provider_the_error_says_what_to_install(forest: Forest) -> None:
    with pytest.raises(ModelError, match="without CUDAExecutionProvider; onnxruntime-gpu"):
        CudaEngine(forest)


@without_gpu
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_graph_that_would_run_on_the_cpu_is_refused(forest: Forest) -> None:
    with pytest.raises(ModelError, match="CUDAExecutionProvider 1 can't run the whole graph"):
        TensorEngine(forest, cuda_provider(1))


@pytest.mark.skipif(cuda.unavailable() is not None, reason=str(cuda.unavailable()))
@pytest.mark.parametrize("n", [1, 64, 65, 1000])
def test_gpu_scores_as_xgboost(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32], n: int
) -> None:
    np.testing.assert_array_equal(CudaEngine(forest).score([rows[:n]]), want[:n])
