"""What a worker is made of."""

import subprocess
import sys


def test_it_starts_without_what_reads_onnx_files_or_looks_at_what_is_installed():
    code = (
        "import sys, ranker.process.worker\n"
        "others = {'importlib.metadata', 'onnx', 'onnxruntime', 'starlette', 'xgboost'}\n"
        "print(*others & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
