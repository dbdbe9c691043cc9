"""What the process that reads models is made of."""

import subprocess
import sys
from pathlib import Path

import pytest

from ranker.engine.gpu import engine as gpu
from ranker.engine.simd import engine as simd

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
