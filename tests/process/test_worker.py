"""What a worker is made of."""

import subprocess
import sys


def test_it_starts_without_what_only_others_need():
    """What reads and runs ONNX files, looks at what is installed, speaks HTTP or logs lists."""
    code = (
        "import sys, ranker.process.worker\n"
        "others = {'importlib.metadata', 'onnx', 'onnxruntime', 'ranker.ranking_log', 'starlette',"
        " 'xgboost'}\n"
        "print(*others & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
