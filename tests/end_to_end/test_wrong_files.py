"""`ranker serve` of what can't be served ends with one line that says what to do.

One case for each process that may find out; tests/process/test_model_reader.py has more.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

PORTS = ("--port", "0", "--metrics-port", "-1", "--http-port", "-1", "--device", "cpu")


def test_what_is_no_onnx_file(truth, tmp_path):
    path = tmp_path / "books.ubj"
    truth.booster.save_model(path)
    last = serve_in_vain(path, "--workers", "2")
    advice = f"ranker export {path} -o {tmp_path}/books.onnx"
    assert last.startswith("Error: books.ubj: ")
    assert last.endswith(advice)


def write_model_that_only_loads(path: Path) -> None:
    """Scores the three rows that onnxruntime is tried with at load, and no other number."""
    floats = onnx.TensorProto.FLOAT
    three = onnx.helper.make_tensor("three", onnx.TensorProto.INT64, [2], [3, 12])
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Reshape", ["rows", "three"], ["matrix"]),
            onnx.helper.make_node("ReduceMax", ["matrix"], ["scores"], axes=[1], keepdims=0),
        ],
        "graph",
        [onnx.helper.make_tensor_value_info("rows", floats, ["n", 12])],
        [onnx.helper.make_tensor_value_info("scores", floats, ["n"])],
        [three],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_that_cannot_score_is_an_error_at_the_start(tmp_path, workers):
    path = tmp_path / "books.onnx"
    write_model_that_only_loads(path)
    done = subprocess.run(
        [sys.executable, "-m", "ranker", "serve", *PORTS, str(path)]
        + ["--workers", workers, "--log-format", "text"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert re.search(r"books@1: engine onnx can't score: .*Reshape", done.stderr, re.DOTALL)


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
