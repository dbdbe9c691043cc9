"""The GPU benchmark runs, end to end, where there is no GPU; nothing here is about its figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks import gpu
from benchmarks.harness import engines, gpu_columns
from ranker.engine.gpu.graph_engine import TensorEngine
from tests.engine.gpu.fake_cuda import FakeCuda
from tests.engine.gpu.gpu_on_cpu import needs_compiler


def run(tmp_path: Path, *arguments: str) -> Result:
    places = ["--models", str(tmp_path / "models"), "--out", str(tmp_path / "out")]
    return CliRunner().invoke(gpu.main, [*places, "--seconds", "0.01", *arguments])


def part(tmp_path: Path, name: str) -> list[dict[str, float]]:
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())


def test_dry(tmp_path: Path) -> None:
    result = run(tmp_path, "--dry")
    assert result.exit_code == 0, result.output
    assert part(tmp_path, "20x4-dry-parity")[0]["differ"] == 0
    for name, columns in (
        ("ours", {"engine µs", "two threads µs", "gather alone µs"}),
        ("server", {"one in flight µs", "16 in flight µs"}),
        ("peers", {"simd, one core µs", "xgboost µs"}),
    ):
        rows = part(tmp_path, f"20x4-dry-{name}")
        assert [row["n"] for row in rows] == list(gpu.DRY_SIZES)
        assert all(columns <= row.keys() for row in rows)
        assert all(value > 0 for row in rows for value in row.values())


def test_what_is_there_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ("--dry", "--part", "parity", "--part", "ours")
    first = run(tmp_path, *own).output.splitlines()
    monkeypatch.setattr(gpu, "Bench", None)
    again = run(tmp_path, *own).output.splitlines()
    assert again[1:] == first[1:]  # but for the machine's load
    assert len(again) > 10


def test_no_part_begins_when_the_time_is_over(tmp_path: Path) -> None:
    result = run(tmp_path, "--dry", "--minutes", "0")
    assert result.exit_code == 0, result.output
    assert "20x4-dry: parity: no time was left" in result.output
    assert not list((tmp_path / "out").iterdir())


def test_scores_that_differ_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = TensorEngine.score
    monkeypatch.setattr(
        TensorEngine, "score", lambda self, blocks: np.nextafter(score(self, blocks), np.inf)
    )
    for _ in range(2):  # also if they are read from the folder
        result = run(tmp_path, "--dry", "--part", "parity")
        assert result.exit_code == 1
        assert "4400 scores differ" in result.output


def test_without_a_gpu_the_script_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.gpu_engine, "unavailable", lambda: "no GPU here")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "no GPU here" in result.output


@needs_compiler
def test_with_a_gpu_that_is_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCuda().install(monkeypatch)
    monkeypatch.setattr("ranker.engine.gpu.kernel_engine.SLOT_BYTES", 1 << 16)
    monkeypatch.setattr(gpu, "SPECS", gpu.DRY_SPECS)
    monkeypatch.setattr(gpu, "POOL_ROWS", gpu.DRY_POOL_ROWS)
    monkeypatch.setattr(gpu, "PARITY_ROWS", 100)
    monkeypatch.setattr(gpu, "machine", lambda _: "a made-up GPU")
    sizes = ("--size", "10", "--size", "100")
    result = run(tmp_path, *sizes, "--part", "parity", "--part", "ours")
    assert result.exit_code == 0, result.output
    assert part(tmp_path, "20x4-dry-parity")[0]["differ"] == 0
    rows = part(tmp_path, "20x4-dry-ours")
    assert [row["n"] for row in rows] == [10, 100]
    assert {"kernel alone µs", "copies alone µs", "engine µs"} <= rows[0].keys()


def test_what_fails_costs_the_report_its_own_cells_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("libcudnn.so.9 is missing")

    monkeypatch.setattr(engines, "by_xgboost", broken)
    result = run(tmp_path, "--dry", "--part", "peers")
    assert result.exit_code == 0, result.output
    assert "libcudnn.so.9 is missing" in result.stderr
    for row in part(tmp_path, "20x4-dry-peers"):
        assert np.isnan(row.pop("xgboost µs"))
        assert np.isnan(row.pop("xgboost M/s"))
        assert all(value > 0 for value in row.values())


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
