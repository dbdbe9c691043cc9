"""What the process that reads models is made of."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ranker.engine.gpu import engine as gpu
from ranker.engine.simd import engine as simd
from ranker.process import preparer
from ranker.process.link import Link, receive
from ranker.process.settings import Settings
from ranker.repository.wanted import Wanted, WantedModel

MODEL = Path(__file__).parents[1] / "forest" / "onnx" / "data" / "xgboost_regressor.onnx"


@pytest.mark.skipif(
    simd.unavailable() is not None or any(path.exists() for path in gpu.DRIVERS),
    reason="other engines are asked here",
)
def test_without_a_gpu_it_reads_trees_without_onnxruntime():
    """Nor with other imports that take longer than it takes to read a small model."""
    code = (
        "import sys, ranker.process.preparer\n"
        "from ranker.model import ModelFile\n"
        "from ranker.model.packed import prepare\n"
        "assert prepare(ModelFile.read(sys.argv[1]), 'auto', 'auto').layout\n"
        "others = {'cuda', 'grpc', 'numpy.ma', 'onnxruntime', 'ranker.engine.gpu.kernel_device',"
        " 'ranker.v1', 'ssl', 'starlette', 'xgboost'}\n"
        "print(*others & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(RecursionError("too deep"), "RecursionError: too deep", id="recursion"),
        pytest.param(TypeError("x" * 5000), "TypeError: " + "x" * 200, id="long"),
        pytest.param(ValueError("no number"), "ValueError: no number", id="value"),
        pytest.param(MemoryError(), "MemoryError", id="memory"),
        pytest.param(OSError(24, "Too many"), "OSError: [Errno 24] Too many", id="system"),
    ],
)
def test_an_error_that_nobody_has_thought_of_is_told_with_the_files_name(
    error, said, monkeypatch, caplog
):
    def prepare(*_: object) -> None:
        raise error

    monkeypatch.setattr(preparer, "prepare", prepare)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wanted, settings = Wanted((WantedModel(str(MODEL)),)), Settings((str(MODEL),), device="cpu")
    with theirs, caplog.at_level(logging.ERROR):
        preparer._read_models(wanted, set(), settings, Link(os.dup(ours.fileno())))
        ours.close()
        message = receive(theirs)
    assert message is not None
    told = f"{MODEL.name}: can't be read: {said}"
    assert message.facts["failed"].startswith(f"{told}; the server's log says more under [")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{told} [")
    assert record.exc_info is not None
    assert record.exc_info[1] is error
