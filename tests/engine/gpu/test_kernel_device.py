"""The kernel's way to a GPU: with a stand-in for the GPU, and the real compiler where it is."""

from __future__ import annotations

import ctypes
import importlib.util
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ranker.engine.api import EngineLostError
from ranker.engine.gpu import engine as gpu
from ranker.engine.gpu import graph_engine as cuda
from ranker.engine.gpu import kernel_device as cuda_device
from ranker.engine.gpu.kernel_engine import KernelEngine
from ranker.engine.gpu.kernel_tables import (
    FOREST,
    LEAVES_BYTES,
    ROWS,
    TREES,
    WARPS,
    lay_out,
    source,
)
from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest import Forest
from tests.engine.gpu.cuda_driver import run_tests
from tests.engine.gpu.fake_cuda import FakeCuda
from tests.engine.gpu.gpu_on_cpu import library, needs_compiler, needs_gpu
from tests.engine.simd.simd_forests import booster_of, predict, random_forest, random_rows

needs_nvrtc = pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None,
    reason="cuda-core is not installed",
)


@pytest.fixture(scope="module")
def forest() -> Forest:
    return random_forest(np.random.default_rng(1), 70, 9, 40)


@pytest.fixture(scope="module")
def rows(forest: Forest) -> NDArray[np.float32]:
    return random_rows(np.random.default_rng(2), 300, forest)


@pytest.fixture(scope="module")
def want(forest: Forest, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return predict(booster_of(forest), rows)


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_the_kernel_without_a_word(arch: str) -> None:
    from cuda.core import Program, ProgramOptions

    log = io.StringIO()
    options = ProgramOptions(std="c++17", ftz=False, fma=False, arch=arch)
    code = Program(source(), "c++", options).compile("cubin", logs=log)
    assert log.getvalue() == ""
    assert b"score_shared" in code.code
    assert b"score_global" in code.code


@needs_nvrtc
@needs_compiler
def test_with_the_real_cuda_core_and_compiler_but_no_gpu(tmp_path: Path) -> None:
    """The tests that wait for a GPU, with a stand-in for NVIDIA's driver only."""
    parity = str(Path(__file__).with_name("test_gpu_parity.py"))
    run_tests(tmp_path, __file__, parity, "-k", "gpu_scores or kernel-on-gpu")


@needs_compiler
def test_the_kernels_constants_are_ours() -> None:
    constants = (ctypes.c_int * 3)()
    library().constants(constants)
    assert list(constants) == [ROWS, WARPS, TREES]
    assert FOREST.itemsize == 64


@needs_gpu
@pytest.mark.parametrize("n", [1, 32, 33, 300])
def test_gpu_scores_as_xgboost(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32], n: int
) -> None:
    engine, which = gpu.load_gpu(forest)
    assert which == "the GPU kernel"
    got = engine.score([rows[:n]])
    np.testing.assert_array_equal(got.view(np.uint32), want[:n].view(np.uint32))


@needs_gpu
@pytest.mark.parametrize(
    ("features", "least", "most"),
    [
        pytest.param(500, 48, 160, id="more-shared-memory-than-granted"),
        pytest.param(5000, 228, 1000, id="columns-in-global-memory"),
    ],
)
def test_gpu_scores_wide_models(features: int, least: int, most: int) -> None:
    wide = random_forest(np.random.default_rng(3), 100, features, 80)
    assert least << 10 < lay_out(wide).column_bytes < most << 10
    rows = random_rows(np.random.default_rng(4), 100, wide)
    engine, _ = gpu.load_gpu(wide)
    np.testing.assert_array_equal(engine.score([rows]), predict(booster_of(wide), rows))


@needs_gpu
def test_gpu_scores_batches_of_several_threads(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        "ranker.engine.gpu.kernel_engine.SLOT_BYTES", 128 * 9 * 4
    )  # so that some are cut
    engine, _ = gpu.load_gpu(forest)
    begins = [7 * i for i in range(20)]
    with ThreadPoolExecutor(3) as threads:
        scores = threads.map(lambda begin: engine.score([rows[begin:200], rows[200:]]), begins)
        for begin, got in zip(begins, scores, strict=True):
            np.testing.assert_array_equal(got, want[begin:])


@needs_gpu
def test_gpu_scores_on_the_one_asked_for(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32]
) -> None:
    from cuda.core import Device

    last = len(Device.get_all_devices()) - 1
    engine, _ = gpu.load_gpu(forest, last)
    assert engine.gpu == Device(last).pci_bus_id
    np.testing.assert_array_equal(engine.score([rows]), want)


@needs_compiler
@pytest.mark.parametrize(
    ("shared_memory", "kernel", "granted"),
    [
        pytest.param(227 << 10, "score_shared", 48 << 10, id="columns-in-shared-memory"),
        pytest.param(LEAVES_BYTES, "score_global", 48 << 10, id="columns-in-global-memory"),
    ],
)
def test_scores_as_xgboost_through_cuda_core(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch, shared_memory: int, kernel: str, granted: int,
) -> None:  # fmt: skip
    fake = FakeCuda(2, shared_memory).install(monkeypatch)
    monkeypatch.setattr("ranker.engine.gpu.kernel_engine.SLOT_BYTES", 128 * 9 * 4)
    engine, which = gpu.load_gpu(forest, 1)
    assert isinstance(engine, KernelEngine)
    assert (engine.gpu, which) == ("0000:01:00.0", "the GPU kernel")
    assert (fake.kernels, fake.granted) == ([kernel], granted)
    assert fake.options == {"std": "c++17", "ftz": False, "fma": False}
    for n in (1, 32, 33, 128, 300):
        fake.grids.clear()
        np.testing.assert_array_equal(engine.score([rows[:n]]), want[:n])
        assert sum(fake.grids) == -(-n // ROWS)


@needs_compiler
def test_more_shared_memory_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda().install(monkeypatch)
    wide = random_forest(np.random.default_rng(3), 30, 2000, 30)
    rows = random_rows(np.random.default_rng(4), 40, wide)
    tables = lay_out(wide)
    engine = KernelEngine(cuda_device.CudaDevice(tables), tables)
    assert fake.granted == LEAVES_BYTES + tables.column_bytes > 48 << 10
    np.testing.assert_array_equal(engine.score([rows]), predict(booster_of(wide), rows))


@needs_compiler
def test_an_error_that_stays_is_the_loss_of_the_gpu(
    forest: Forest, rows: NDArray[np.float32], want: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake = FakeCuda().install(monkeypatch)
    # A whole slot is scored as the engine is made: here one that is just long enough.
    monkeypatch.setattr("ranker.engine.gpu.kernel_engine.SLOT_BYTES", 320 * 9 * 4)
    engine, _ = gpu.load_gpu(forest)
    with monkeypatch.context() as once:
        once.setattr(cuda_device.CudaDevice, "launch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.score([rows])
    np.testing.assert_array_equal(engine.score([rows]), want)
    fake.error = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(EngineLostError, match=r"GPU 0000:00:00.0 is lost: CUDA_ERROR_ILLEGAL"):
        engine.score([rows])


def test_a_gpu_that_is_not_there(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda().install(monkeypatch)
    with pytest.raises(ModelError, match=r"GPU 3 can't be used: CUDA_ERROR_INVALID_DEVICE"):
        gpu.load_gpu(forest, 3)


def test_a_gpu_whose_memory_is_full(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")

    FakeCuda().install(monkeypatch)
    monkeypatch.setattr(cuda_device.CudaDevice, "make_slot", full)
    with pytest.raises(ModelError, match=r"GPU 0 can't be used: CUDA_ERROR_OUT_OF_MEMORY"):
        gpu.load_gpu(forest)


def test_the_graph_on_a_gpu_whose_memory_is_full(
    forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("BFCArena")

    monkeypatch.setattr(cuda_device, "unavailable", lambda: "no driver")
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(cuda, "CudaEngine", full)
    with pytest.raises(ModelError, match=r"GPU 1 can't be used: BFCArena"):
        gpu.load_gpu(forest, 1)


def test_no_gpu_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda(gpus=0).install(monkeypatch)
    assert cuda_device.unavailable() == "the driver finds no GPU"


def test_without_cuda_core_the_reason_says_what_brings_it(
    forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    monkeypatch.setattr(cuda, "unavailable", lambda: "no provider")
    with pytest.raises(ModelError, match=r"engine cuda: .* the extra gpu brings .*; no provider"):
        gpu.load_gpu(forest)


def test_without_the_kernel_the_graph_is_taken_and_the_reason_given(
    forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_device, "unavailable", lambda: "no driver")
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(cuda, "CudaEngine", lambda forest, index: (forest, index))
    assert gpu.load_gpu(forest, 2) == (
        (forest, 2), "onnxruntime on the GPU, not the kernel: no driver"
    )  # fmt: skip


def test_a_forest_too_large_for_its_nodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = random_forest(np.random.default_rng(5), 5, 3, 30)
    tables = lay_out(wide)
    assert tables.nodes["next"].max() < 1 << 32
    monkeypatch.setattr("ranker.engine.gpu.kernel_tables.NEXT_BITS", tables.column_bits + 3)
    with pytest.raises(UnsupportedModelError, match=r"expected at most 8 nodes"):
        lay_out(wide)
