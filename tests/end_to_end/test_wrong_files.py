"""`ranker serve` of what is no ONNX file ends with one line that says what to do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest


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
    ports = ["--port", "0", "--metrics-port", "-1", "--workers", workers]
    result = subprocess.run(
        [sys.executable, "-m", "ranker", "serve", str(path), *ports],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    *log, last = result.stderr.splitlines()
    assert last.startswith(f"Error: {filename}: ")
    assert last.endswith(advice.format(path=path, folder=tmp_path))
    assert all(json.loads(line)["severity"] == "INFO" for line in log)
