"""How each of the server's processes begins."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, sys
while_imported = gc.isenabled(), gc.get_freeze_count()
def main():
    print(while_imported, gc.isenabled(), gc.get_freeze_count() > 1000, __name__, sys.argv[1:])
"""


THREADS = """
import os, numpy
def main():
    print(len(os.listdir("/proc/self/task")), os.environ["OPENBLAS_NUM_THREADS"])
"""

DESCRIPTORS = """
import re
from pathlib import Path
def main():
    print(re.search(r"FDSize:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def run(program: str, folder: Path, *under: str, **variables: str) -> str:
    (folder / "some_program.py").write_text(program)
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(folder), **variables}
    command = [*under, sys.executable, "-m", "ranker.process.program", "some_program", "1", "two"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_collector_looks_at_nothing_that_was_imported(tmp_path):
    assert run(PROGRAM, tmp_path) == "(False, 0) True True some_program ['1', 'two']\n"


def test_numpy_starts_no_threads_unless_it_is_told_to(tmp_path):
    assert run(THREADS, tmp_path) == "1 1\n"
    threads, told = run(THREADS, tmp_path, OPENBLAS_NUM_THREADS="2").split()
    assert int(threads) == min(2, len(os.sched_getaffinity(0)))
    assert told == "2"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
@pytest.mark.parametrize("limit", [256, 100_000], ids=["few", "many"])
def test_the_kernel_has_room_for_all_connections_before_there_are_threads(tmp_path, limit):
    limit = min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    under = "sh", "-c", f'ulimit -S -n {limit} && exec "$@"', "sh"
    assert int(run(DESCRIPTORS, tmp_path, *under)) >= min(limit, 4096)
