"""The generated code and the wire contracts are in step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

CONTRACTS = {
    "protos/ranker/v1/ranking.proto": ".",
    "protos/ranker/v1/log.proto": ".",
    "protos/inference/open_inference.proto": "ranker",
}
"""The folders that their code is made in."""


@pytest.mark.parametrize("name", ["ranking.proto", "log.proto"])
def test_the_package_has_a_copy_of_the_contract(name):
    copy = (ROOT / "ranker/v1" / name).read_text()
    assert copy == (ROOT / "protos/ranker/v1" / name).read_text(), "run: make protos"


@pytest.mark.parametrize("suffix", ["_pb2.py", "_pb2.pyi"])
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda path: Path(path).stem)
def test_generated_code_is_that_of_the_contract(tmp_path, contract, suffix):
    outputs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iprotos", *outputs]
    subprocess.run([*command, contract], cwd=ROOT, check=True)
    name = contract.removeprefix("protos/").removesuffix(".proto") + suffix
    code = ROOT / CONTRACTS[contract] / name
    assert code.read_text() == (tmp_path / name).read_text(), "run: make protos"
