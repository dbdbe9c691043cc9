"""The generated code and the wire contract are in step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_package_has_a_copy_of_the_contract():
    copy = (ROOT / "ranker/v1/ranking.proto").read_text()
    assert copy == (ROOT / "protos/ranker/v1/ranking.proto").read_text(), "run: make protos"


@pytest.mark.parametrize("suffix", ["_pb2.py", "_pb2.pyi"])
def test_generated_code_is_that_of_the_contract(tmp_path, suffix):
    outputs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iprotos", *outputs]
    subprocess.run([*command, "protos/ranker/v1/ranking.proto"], cwd=ROOT, check=True)
    name = f"ranker/v1/ranking{suffix}"
    assert (ROOT / name).read_text() == (tmp_path / name).read_text(), "run: make protos"
