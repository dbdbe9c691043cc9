"""`ranker serve` of what is no ONNX file ends with one line that says what to do."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from ranker.export import export_onnx

PORTS = ("--port", "0", "--metrics-port", "-1", "--http-port", "-1", "--device", "cpu")


@pytest.mark.parametrize(
    ("filename", "advice"),
    [
        pytest.param("books.ubj", "ranker export {path} -o {folder}/books.onnx", id="xgboost"),
        pytest.param("books.pkl", "ranker.export_onnx(model, 'model.onnx')", id="pickle"),
        pytest.param("absent.onnx", "can't be read: No such file or directory", id="absent"),
        pytest.param("empty.onnx", "no IR version or no operators in it", id="empty"),
        pytest.param("text.onnx", "or a truncated one: protobuf can't parse it", id="text"),
    ],
)
def test_it_says_what_to_do(truth, tmp_path, filename, advice):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_bytes(b"not a model" * 50)
    truth.booster.save_model(tmp_path / "books.ubj")
    (tmp_path / "books.pkl").write_bytes(pickle.dumps(truth.booster))
    path = tmp_path / filename
    last = serve_in_vain(path, "--workers", "2")
    assert last.startswith(f"Error: {filename}: ")
    assert last.endswith(advice.format(path=path, folder=tmp_path))


def test_a_version_is_served_once(truth, tmp_path):
    other = tmp_path / "other.onnx"
    export_onnx(truth.booster, other, name="books", version="7", iteration_range=(0, 3))
    last = serve_in_vain(truth.path, other)
    assert last.startswith("Error: two models are books@7: export one of them with another")


def test_a_misspelt_feature_to_leave_out_of_the_log_is_no_server(truth, tmp_path):
    log = ("--log-rankings", tmp_path / "log", "--log-exclude-feature", "featur_3")
    last = serve_in_vain(truth.path, *log)
    assert last.startswith(
        "Error: --log-exclude-feature: no feature 'featur_3' (did you mean 'feature_3'?) in books@7"
    )


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
