"""The GPU benchmark runs, end to end, where there is no GPU; nothing here is about its figures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks import gpu, gpu_columns
from ranker.engine.gpu.graph_engine import TensorEngine
from tests.engine.gpu.fake_cuda import FakeCuda
from tests.engine.gpu.gpu_on_cpu import needs_compiler


def run(tmp_path: Path, *arguments: str) -> Result:
    places = ["--models", str(tmp_path / "models"), "--out", str(tmp_path / "out")]
    return CliRunner().invoke(gpu.main, [*places, "--seconds", "0.01", *arguments])


def header(output: str) -> list[str]:
    [line] = [line for line in output.splitlines() if line.startswith("| n |")]
    return [title.strip() for title in line.split("|")[1:-1]]


def test_dry(tmp_path: Path) -> None:
    result = run(tmp_path, "--dry", "--serve")
    assert result.exit_code == 0, result.output
    assert "scores equal XGBoost's, bit for bit" in result.output
    assert header(result.output)[:3] == ["n", "engine", "two threads"]
    assert header(result.output)[-2:] == ["server", "server, 16 in flight"]
    rows = [line for line in result.output.splitlines() if line.startswith("| 1")]
    assert len(rows) == len(gpu.DRY_SIZES)
    assert all("|  |" not in row for row in rows)


def test_what_is_there_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path, "--dry")
    monkeypatch.setattr(gpu, "table", None)
    assert run(tmp_path, "--dry").output == first.output


def test_scores_that_differ_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = TensorEngine.score
    monkeypatch.setattr(
        TensorEngine, "score", lambda self, blocks: np.nextafter(score(self, blocks), np.inf)
    )
    for _ in range(2):  # also if they are read from the folder
        result = run(tmp_path, "--dry", "--size", "10")
        assert result.exit_code == 1
        assert "4400 of 4400 scores differ" in result.output


def test_without_a_gpu_the_script_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.gpu, "unavailable", lambda: "no GPU here")
    result = run(tmp_path)
    assert (result.exit_code, result.output) == (1, "no GPU here\n")


@needs_compiler
def test_with_a_gpu_that_is_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda().install(monkeypatch)
    monkeypatch.setattr("ranker.engine.gpu.kernel_engine.SLOT_BYTES", 1 << 16)
    monkeypatch.setattr(gpu, "SPECS", gpu.DRY_SPECS)
    monkeypatch.setattr(gpu, "POOL_ROWS", gpu.DRY_POOL_ROWS)
    monkeypatch.setattr(gpu, "PARITY_ROWS", 100)
    monkeypatch.setattr(gpu, "machine", lambda _: "a made-up GPU")
    result = run(tmp_path, "--size", "10", "--size", "100")
    assert result.exit_code == 0, result.output
    assert "scores equal XGBoost's, bit for bit" in result.output
    alone = [title for title in header(result.output) if title.endswith("alone")]
    assert alone == ["kernel alone", "copies alone", "arithmetic alone", "gather alone"]


def test_nvforest_is_tuned_to_the_batch_and_its_scores_fetched_from_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnDevice:
        """As CuPy's arrays: NumPy may not take them, they have to be fetched."""

        fetched = 0

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise TypeError("implicit conversion to a NumPy array is not allowed")

        def get(self) -> np.ndarray:
            OnDevice.fetched += 1
            return np.zeros(3, np.float32)

    def optimize(data: np.ndarray) -> SimpleNamespace:
        assert data.shape == (4, 3, 2)  # batches, rows, features
        return SimpleNamespace(predict=lambda _: OnDevice())

    nvforest = ModuleType("nvforest")
    vars(nvforest)["load_model"] = lambda *_, **__: SimpleNamespace(optimize=optimize)
    monkeypatch.setitem(sys.modules, "nvforest", nvforest)
    column = gpu_columns._nvforest(tmp_path / "model.ubj", 0)
    assert column([np.ones((3, 2), np.float32)] * 4, 0.0) > 0
    assert OnDevice.fetched >= 4


def test_what_fails_costs_the_report_its_own_cells_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("libcudnn.so.9 is missing")

    monkeypatch.setattr(gpu_columns, "_xgboost", broken)
    result = run(tmp_path, "--dry")
    assert result.exit_code == 0, result.output
    assert "libcudnn.so.9 is missing" in result.stderr
    column = header(result.output).index("xgboost")
    rows = [line.split("|")[1:-1] for line in result.output.splitlines() if line.startswith("| 1")]
    assert len(rows) == len(gpu.DRY_SIZES)
    for row in rows:
        assert [i for i, cell in enumerate(row) if cell.strip() == "failed"] == [column]


def test_two_threads_count_their_batches_together() -> None:
    class Counting:
        name = "counting"
        num_features = 1
        batches = 0

        def score(self, blocks: list[np.ndarray]) -> np.ndarray:
            Counting.batches += 1
            return np.zeros(len(blocks[0]), np.float32)

    blocks = [np.zeros((2, 1), np.float32)] * 4
    assert gpu_columns.two_threads(Counting(), blocks, 0.0) > 0
    assert Counting.batches >= 6
