"""The engine around the GPU kernel: slots, cutting, overlap, errors; on a device that is a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from ranker.engine.api import EngineLostError
from ranker.engine.gpu import kernel_engine as kernel
from ranker.engine.gpu.kernel_engine import KernelEngine, cut, slot_rows
from ranker.engine.gpu.kernel_tables import ROWS, lay_out
from ranker.forest import Forest
from tests.engine.gpu.gpu_on_cpu import KernelOnCpu, needs_compiler
from tests.engine.simd.simd_forests import booster_of, predict, random_forest, random_rows

FEATURES = 9
CAPACITY = 2 * ROWS
WAIT = 60.0


class CpuSlot:
    """Scores when it is waited for, as late as a GPU could, with what the slot holds then."""

    def __init__(self, device: CpuDevice, capacity: int) -> None:
        self.rows = np.empty((capacity, FEATURES), np.float32)
        self.scores = np.empty(capacity, np.float32)
        self._device = device
        self._count = 0

    def start(self, count: int) -> None:
        assert self._count == 0, "started twice"
        self._device.on_start(count)
        self._count = count

    def wait(self) -> None:
        count, self._count = self._count, 0
        if count:
            self._device.on_wait(count)
            self.scores[:count] = self._device.score(self.rows[:count])


class CpuDevice:
    gpu = "0000:00:00.0"
    is_lost = False

    def __init__(self, score: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.score = score
        self.slots: list[CpuSlot] = []
        self.started: list[int] = []
        self.on_wait: Callable[[int], None] = lambda _: None
        self.broken = False

    def on_start(self, count: int) -> None:
        if self.broken:
            raise RuntimeError("the GPU fell off the bus")
        self.started.append(count)

    def lost(self) -> bool:
        return self.is_lost

    def make_slot(self, capacity: int) -> CpuSlot:
        self.slots.append(CpuSlot(self, capacity))
        return self.slots[-1]


@pytest.fixture
def small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SLOT_BYTES", CAPACITY * FEATURES * 4)


@pytest.fixture(scope="module")
def forest() -> Forest:
    return random_forest(np.random.default_rng(1), 30, FEATURES, 40)


@pytest.fixture(scope="module")
def rows(forest: Forest) -> NDArray[np.float32]:
    return random_rows(np.random.default_rng(2), 1000, forest)


@pytest.fixture(scope="module")
def want(forest: Forest, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return predict(booster_of(forest), rows)


@pytest.fixture
def device(rows: NDArray[np.float32], want: NDArray[np.float32]) -> CpuDevice:
    """Knows the scores of `rows` by heart; as XGBoost made them, not the kernel."""
    known = {row.tobytes(): score for row, score in zip(rows, want, strict=True)}
    known[np.zeros(FEATURES, np.float32).tobytes()] = np.float32(0)
    return CpuDevice(lambda some: np.array([known[row.tobytes()] for row in some], np.float32))


@pytest.fixture
def engine(small_slots: None, device: CpuDevice, forest: Forest) -> KernelEngine:  # noqa: ARG001
    return KernelEngine(device, lay_out(forest))


@needs_compiler
@pytest.mark.usefixtures("small_slots")
def test_kernel_and_engine_score_as_xgboost(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    engine = KernelEngine(CpuDevice(KernelOnCpu(forest).score), lay_out(forest))
    for n in (1, ROWS - 1, ROWS, ROWS + 1, CAPACITY, CAPACITY + 1, 1000):
        np.testing.assert_array_equal(engine.score([rows[:n]]), want[:n])


def test_every_slot_is_tried_at_load(engine: KernelEngine, device: CpuDevice) -> None:
    assert device.started == [CAPACITY] * kernel.SLOTS
    assert (engine.name, engine.gpu, engine.batches_at_once) == ("cuda", "0000:00:00.0", 2)


@pytest.mark.parametrize("n", [0, 1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 5 * CAPACITY + 3])
def test_batches_of_any_size(
    engine: KernelEngine, rows: NDArray[np.float32], want: NDArray[np.float32], n: int
) -> None:
    np.testing.assert_array_equal(engine.score([rows[:n]]), want[:n])


def test_blocks_of_any_size_and_alignment_are_one_batch(
    engine: KernelEngine, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        blocks, begin = [], 0
        while begin < 600:
            size = int(rng.choice([0, 1, 2, 10, CAPACITY, 3 * CAPACITY + 1]))
            memory = bytearray(size * FEATURES * 4 + 1)
            block = np.frombuffer(memory, np.float32, size * FEATURES, 1).reshape(size, FEATURES)
            block[:] = rows[begin : begin + size]
            blocks.append(block)
            begin += size
        np.testing.assert_array_equal(engine.score(blocks), want[:begin])


def test_pieces_of_a_batch_overlap(
    engine: KernelEngine, device: CpuDevice, rows: NDArray[np.float32]
) -> None:
    begun = len(device.started)
    running: list[int] = []
    device.on_wait = lambda _: running.append(len(device.started) - begun - len(running))
    engine.score([rows[: 4 * CAPACITY]])
    assert running == [2, 2, 2, 1]  # in the slots, whenever one is waited for


def test_batches_of_two_threads_overlap(
    engine: KernelEngine, device: CpuDevice, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    both = threading.Barrier(2)
    device.on_wait = lambda _: both.wait(WAIT) and None
    with ThreadPoolExecutor(2) as threads:
        scores = threads.map(lambda begin: engine.score([rows[begin : begin + 5]]), (0, 100))
        np.testing.assert_array_equal(list(scores), [want[:5], want[100:105]])


def test_threads_do_not_mix_their_batches(
    engine: KernelEngine, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    begins = [7 * i for i in range(100)]
    with ThreadPoolExecutor(4) as threads:
        scores = threads.map(lambda begin: engine.score([rows[begin : begin + 170]]), begins)
        for begin, got in zip(begins, scores, strict=True):
            np.testing.assert_array_equal(got, want[begin : begin + 170])


def test_earlier_scores_outlive_later_batches(
    engine: KernelEngine, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    first = engine.score([rows[:64]])
    for begin in (500, 600):
        engine.score([rows[begin : begin + 64]])
    np.testing.assert_array_equal(first, want[:64])


@pytest.mark.parametrize("when", ["start", "wait"])
def test_an_error_gives_the_slots_back(
    engine: KernelEngine, device: CpuDevice, rows: NDArray[np.float32], want: NDArray[np.float32],
    when: str,
) -> None:  # fmt: skip
    def fail(_: int) -> None:
        raise RuntimeError("the GPU fell off the bus")

    for _ in range(2 * kernel.SLOTS):
        device.broken, device.on_wait = when == "start", fail
        with pytest.raises(RuntimeError, match="fell off the bus"):
            engine.score([rows])
        device.broken, device.on_wait = False, lambda _: None
    np.testing.assert_array_equal(engine.score([rows]), want)


@pytest.mark.parametrize("when", ["start", "wait"])
def test_an_error_of_a_gpu_that_is_lost_says_so(
    engine: KernelEngine, device: CpuDevice, rows: NDArray[np.float32], when: str
) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("the GPU fell off the bus")

    device.broken, device.on_wait, device.is_lost = when == "start", fail, True
    for _ in range(2):
        with pytest.raises(EngineLostError, match=r"GPU 0000:00:00.0 is lost: .* off the bus"):
            engine.score([rows])


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(np.zeros((2, FEATURES - 1), np.float32), id="too-narrow"),
        pytest.param(np.zeros((2, FEATURES), np.float64), id="doubles"),
        pytest.param(np.zeros(FEATURES, np.float32), id="one-dimension"),
        pytest.param(np.zeros((2, FEATURES), ">f4"), id="big-endian"),
    ],
)
def test_wrong_blocks_are_refused(engine: KernelEngine, block: NDArray) -> None:
    with pytest.raises(ValueError, match=f"expected float32 \\[n, {FEATURES}\\], got"):
        engine.score([block])


def test_cut_fills_every_piece_but_the_last() -> None:
    blocks = [np.full((n, 1), i, np.float32) for i, n in enumerate([3, 0, 9, 1, 4])]
    pieces = list(cut(blocks, 5))
    assert [sum(map(len, piece)) for piece in pieces] == [5, 5, 5, 2]
    np.testing.assert_array_equal(
        np.concatenate([block for piece in pieces for block in piece]), np.concatenate(blocks)
    )


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        pytest.param(64, 32768, id="64-features"),
        pytest.param(1, kernel.MAX_SLOT_ROWS, id="few-features"),
        pytest.param(10**6, ROWS, id="a-million-features"),
    ],
)
def test_slots_are_bounded_in_bytes(features: int, expected: int) -> None:
    tables = lay_out(random_forest(np.random.default_rng(0), 3, features, 8))
    assert slot_rows(tables) == expected
