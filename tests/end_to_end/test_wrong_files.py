"""`ranker serve` of what is no ONNX file ends with one line that says what to do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from ranker.export import export_onnx

PORTS = ("--port", "0", "--metrics-port", "-1", "--device", "cpu")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("filename", "advice"),
    [
        pytest.param("books.ubj", "ranker export {path} -o {folder}/books.onnx", id="xgboost"),
        pytest.param("books.pkl", "ranker.export_onnx(model, 'model.onnx')", id="pickle"),
        pytest.param("absent.onnx", "can't be read: No such file or directory", id="absent"),
    ],
)
def test_it_says_what_to_do(truth, tmp_path, workers, filename, advice):
    truth.booster.save_model(tmp_path / "books.ubj")
    (tmp_path / "books.pkl").write_bytes(pickle.dumps(truth.booster))
    path = tmp_path / filename
    last = serve_in_vain(path, "--workers", workers)
    assert last.startswith(f"Error: {filename}: ")
    assert last.endswith(advice.format(path=path, folder=tmp_path))


def test_a_version_is_served_once(truth, tmp_path):
    other = tmp_path / "other.onnx"
    export_onnx(truth.booster, other, name="books", version="7", iteration_range=(0, 3))
    last = serve_in_vain(truth.path, other)
    assert last.startswith("Error: two models are books@7: export one of them with another")


def serve_in_vain(*arguments) -> str:
    """The last line that the command writes; those before are of its log, without errors."""
    result = subprocess.run(
        [sys.executable, "-m", "ranker", "serve", *PORTS, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    *log, last = result.stderr.splitlines()
    assert all(json.loads(line)["severity"] == "INFO" for line in log)
    return last
