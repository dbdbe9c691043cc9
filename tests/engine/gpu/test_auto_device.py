"""Choosing between CPU and GPU, with engines whose speed is made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from ranker.engine.api import Engine, Rows, Scores
from ranker.engine.gpu import auto_device as device
from ranker.engine.gpu import engine as gpu
from ranker.engine.gpu.auto_device import (
    CROSSOVER_ROWS,
    AutoDevice,
    crossover,
    prefer_gpu,
)
from ranker.engine.registry import gpu_index
from ranker.errors import ModelError
from ranker.forest import Forest
from tests.engine.simd.simd_forests import random_forest
from tests.fakes import BrokenEngine


class Clock:
    """A clock that only moves when an engine scores."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class MadeUpEngine(Engine):
    """Takes `fixed + per_row * rows` seconds, and scores every row with its own name's length."""

    num_features = 3

    def __init__(self, name: str, clock: Clock, fixed: float, per_row: float) -> None:
        self.name = name
        self._clock = clock
        self._fixed = fixed
        self._per_row = per_row

    def score(self, blocks: Sequence[Rows]) -> Scores:
        rows = sum(map(len, blocks))
        self._clock.now += self._fixed + self._per_row * rows
        return np.full(rows, len(self.name), np.float32)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def forest() -> Forest:
    return random_forest(np.random.default_rng(0), 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "index"),
    [("auto", None), ("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:13", 13)],
)
def test_devices(text: str, index: int | None) -> None:
    assert gpu_index(text) == index


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", "cuda:1 "])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"expected auto, cpu, cuda or cuda:N"):
        gpu_index(text)


@pytest.mark.parametrize(
    ("fixed", "per_row", "rows"),
    [
        pytest.param(0.0, 1e-7, CROSSOVER_ROWS[0], id="always-faster"),
        pytest.param(0.5, 0.0, 512, id="faster-from-some-size-on"),
        pytest.param(0.0, 1.0, None, id="never-faster"),
        pytest.param(1e3, 0.0, None, id="only-faster-beyond-what-is-timed"),
    ],
)
def test_crossover(clock: Clock, fixed: float, per_row: float, rows: int | None) -> None:
    cpu = MadeUpEngine("cpu", clock, 0.0, 1e-3)
    assert crossover(cpu, MadeUpEngine("gpu", clock, fixed, per_row), clock) == rows


def test_auto_device_sends_small_batches_to_the_cpu(clock: Clock) -> None:
    cpu, gpu = (MadeUpEngine(name, clock, 0.0, 0.0) for name in ("simd", "gpu"))
    engine = AutoDevice(cpu, gpu, 100)
    block = np.zeros((50, 3), np.float32)
    assert engine.score([block, block[:49]]).tolist() == [4.0] * 99
    assert engine.score([block, block]).tolist() == [3.0] * 100
    assert (engine.name, engine.num_features) == ("simd+gpu", 3)
    assert (engine.batches_at_once, engine.gpu) == (1, "")
    gpu.batches_at_once, gpu.gpu = 2, "0000:1B:00.0"
    engine = AutoDevice(cpu, gpu, 100)
    assert (engine.batches_at_once, engine.gpu) == (2, "0000:1B:00.0")


@pytest.mark.skipif(gpu.unavailable() is None, reason="this machine may have a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_says_why(clock: Clock, forest: Forest) -> None:
    cpu = MadeUpEngine("simd", clock, 0.0, 0.0)
    engine, reason = prefer_gpu(cpu, forest)
    assert engine is cpu
    assert "installed without CUDAExecutionProvider" in reason


@pytest.mark.parametrize(
    ("per_row", "name", "reason"),
    [
        pytest.param(
            1e-9, "simd+cuda", "simd below 32 rows, from there on the made-up one", id="fast"
        ),
        pytest.param(1.0, "simd", "on the CPU: it is faster up to 16384 rows", id="slow"),
    ],
)
def test_auto_takes_a_gpu_that_is_faster(
    clock: Clock, forest: Forest, monkeypatch: pytest.MonkeyPatch,
    per_row: float, name: str, reason: str,
) -> None:  # fmt: skip
    made_up = MadeUpEngine("cuda", clock, 0.0, per_row)
    monkeypatch.setattr(device, "load_gpu", lambda _: (made_up, "the made-up one"))
    monkeypatch.setattr(crossover, "__defaults__", (clock,))
    engine, why = prefer_gpu(MadeUpEngine("simd", clock, 0.0, 1e-3), forest)
    assert (engine.name, why) == (name, reason)


def test_auto_scores_on_the_cpu_if_the_gpu_fails_when_it_is_timed(
    clock: Clock, forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "load_gpu", lambda _: (BrokenEngine(), "the broken one"))
    cpu = MadeUpEngine("simd", clock, 0.0, 1e-3)
    engine, why = prefer_gpu(cpu, forest)
    assert engine is cpu
    assert why == "on the CPU: the GPU failed when it was timed: secret of the engine"


def test_logistic_scores_stay_on_one_device(clock: Clock, forest: Forest) -> None:
    cpu = MadeUpEngine("onnx", clock, 0.0, 1.0)
    engine, reason = device.prefer_gpu(cpu, dataclasses.replace(forest, logistic=True))
    assert engine is cpu
    assert "exp()" in reason
