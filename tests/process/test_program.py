"""How each of the server's processes begins."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import gc, sys
while_imported = gc.isenabled(), gc.get_freeze_count()
def main():
    print(while_imported, gc.isenabled(), gc.get_freeze_count() > 1000, __name__, sys.argv[1:])
"""


def test_the_collector_looks_at_nothing_that_was_imported(tmp_path):
    (tmp_path / "some_program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "ranker.process.program", "some_program", "1", "two"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(False, 0) True True some_program ['1', 'two']\n"
