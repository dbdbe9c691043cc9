"""What the process that starts the others is made of."""

import subprocess
import sys


def test_it_starts_without_what_only_others_need():
    code = (
        "import sys, ranker.cli.main, ranker.cli.serve, ranker.process.supervisor\n"
        "others = {'asyncio', 'google.protobuf', 'grpc', 'http.client', 'numpy', 'ssl'}\n"
        "print(*others & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
