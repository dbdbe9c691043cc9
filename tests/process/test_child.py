"""A process that was started, as the one that has started it sees it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ranker.process.child import TELLS

CHILD = """
import sys
from ranker.process.link import Link
def main():
    link = Link(int(sys.argv[1]))
    link.hear()
    link.ready({})
    link.hear()
"""

# A process of its own: in one with other threads it is these that get the signal.
PARENT = """
import signal
from ranker.process.child import Child
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
child = Child("some_program", (), ())
assert signal.sigtimedwait([signal.SIGCHLD], 0) is None
child.say({"go": "on"})
while not (said := child.messages()):
    assert signal.sigtimedwait([signal.SIGCHLD], 60) is not None, "no signal"
print(said[0].facts, child.exit())
child.end()
"""


@pytest.mark.skipif(not TELLS, reason="the system does not tell")
def test_a_signal_tells_that_it_has_said_something(tmp_path):
    (tmp_path / "some_program.py").write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PARENT], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "{'ready': {}} None\n", done.stderr
