"""A process that was started, as the one that has started it sees it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ranker.process.child import TELLS, Child
from ranker.process.link import receive, send, socket_pair
from ranker.process.shared_files import SharedFiles
from tests.waiting import wait_until

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


@contextmanager
def running(code: str, *arguments: str) -> Iterator[Child]:
    """A Python program, as its parent sees it."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    child = Child.__new__(Child)
    child.pid = process.pid
    try:
        yield child
    finally:
        process.kill()
        process.wait()
    assert child.states() == child.sleeps_in() == ""
    assert child.seconds_used() == child.seconds_without_core() == 0.0


def test_what_can_not_be_sent_now_is_sent_later(monkeypatch):
    """Of a user who is not root only so many open files may be on their way."""
    refusals = [errno.ETOOMANYREFS, errno.EMFILE, errno.EAGAIN]

    def refuse(*arguments: Any) -> None:
        if refusals:
            raise OSError(refusals.pop(), "not now")
        send(*arguments)

    monkeypatch.setattr("ranker.process.child.send", refuse)
    child = Child.__new__(Child)
    child._link, theirs = socket_pair()
    child._unsaid = deque()
    child.say({"model": 1})
    child.say({"model": 2})
    child.flush()
    child.flush()
    assert [receive(theirs).facts for _ in range(2)] == [{"model": 1}, {"model": 2}]
    assert not child._unsaid


def test_files_that_wait_to_be_sent_take_no_descriptors(monkeypatch):
    """A change of many models, for many workers, would take all that the supervisor has."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.EAGAIN, "not now")

    monkeypatch.setattr("ranker.process.child.send", refuse)
    child = Child.__new__(Child)
    child._link, theirs = socket_pair()
    child._unsaid = deque()
    files = SharedFiles([os.memfd_create("model")])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        child.say({"model": 1}, files)
    assert len(os.listdir("/proc/self/fd")) == before
    files.release()
    monkeypatch.setattr("ranker.process.child.send", send)
    child.flush()
    for _ in range(100):
        [copy] = receive(theirs).files
        os.close(copy)
    assert len(os.listdir("/proc/self/fd")) == before - 1, "sent to all, they are closed"


def test_the_system_tells_how_long_a_process_used_a_core_and_waited_for_one():
    [core, *_] = os.sched_getaffinity(0)
    spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    with running(spin), running(spin) as child:
        wait_until(lambda: child.seconds_without_core() > 0.2)
        wait_until(lambda: child.seconds_used() > 0.2)
        assert child.states() == "R"
        assert child.sleeps_in() == ""
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: child.states() == "T")


def test_the_system_tells_where_a_process_sleeps():
    code = "import threading\n" + "threading.Thread(target=threading.Event().wait).start()\n" * 2
    with running(code + "import time; time.sleep(1000)") as child:
        wait_until(lambda: child.states() == "SSS" and "sleep" in child.sleeps_in())


# It starts another program, and is blocked until that runs; that first opens a pipe.
BLOCKED = """
import os, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
opening = (os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[opening])
"""


def test_the_system_tells_that_a_process_is_blocked(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # whoever opens it waits for another who does
    with running(BLOCKED, str(tmp_path / "pipe")) as child:
        try:
            wait_until(lambda: child.states() == "DS")
        finally:
            os.close(os.open(tmp_path / "pipe", os.O_RDWR))
