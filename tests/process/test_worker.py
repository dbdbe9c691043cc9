"""What a worker is made of."""

import subprocess
import sys


def test_it_starts_without_what_reads_and_runs_onnx_files():
    code = (
        "import sys, ranker.process.worker; "
        "print(*{'onnx', 'onnxruntime', 'xgboost', 'starlette'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
