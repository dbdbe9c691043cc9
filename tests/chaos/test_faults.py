"""Each fault does what it says: else a server would pass by meeting none."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import clock, limits, namespace
from tests.chaos.clock import Clock
from tests.chaos.counters import gone_back

MISSING = namespace.missing()
needs_namespaces = pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}")
needs_compiler = pytest.mark.skipif(not clock.compiler(), reason="needs a C compiler")

OBEDIENT = """
import mmap, sys, time
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""
"""Says what the expressions are that it is told, or why it can't tell."""


class Child:
    """A process that says what expressions are."""

    def __init__(self, **environment: str) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", OBEDIENT]
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment or None
        )
        self.pid = self._process.pid
        self.ask("1")

    def ask(self, expression: str) -> str:
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


@needs_namespaces
@pytest.mark.parametrize("fault", ["loss", "partition", "full_disk"])
def test_in_namespaces_of_its_own(fault: str):
    shell = f"ip link set lo up && exec {sys.executable} -m tests.chaos.inside {fault}"
    command = namespace.command(["sh", "-c", shell])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@needs_namespaces
def test_a_program_goes_on_in_new_namespaces():
    code = (
        "import os, sys; from tests.chaos import namespace; namespace.enter();"
        "print(sys.argv[1:], os.readlink('/proc/self/ns/net'), os.readlink('/proc/self/ns/mnt'))"
    )
    done = subprocess.run([sys.executable, "-c", code, "a b"], capture_output=True, text=True)
    here = [(Path("/proc/self/ns") / name).readlink() for name in ("net", "mnt")]
    assert done.stdout.startswith("['a b'] net:["), done.stderr
    assert not any(str(each) in done.stdout for each in here)


def test_no_descriptor_is_left(child: Child):
    opening = "open('/dev/null').close() or 'opened'"
    assert child.ask(opening) == "opened"
    with limits.no_more_descriptors([child.pid]):
        assert "Too many open files" in child.ask(opening)
    assert child.ask(opening) == "opened"


def test_little_memory_is_left(child: Child):
    taking = f"len(mmap.mmap(-1, {16 * 2**20}))"
    assert child.ask(taking) == str(16 * 2**20)
    with limits.little_more_memory([child.pid], 2**20):
        assert "Cannot allocate memory" in child.ask(taking)
    assert child.ask(taking) == str(16 * 2**20)


@needs_compiler
def test_the_clock_that_a_child_sees_jumps(tmp_path):
    wrong = Clock(tmp_path)
    child = Child(**wrong.environment)
    for offset in (0, 3600, -3600, 0):
        wrong.jump(offset)
        before, steady = time.time(), time.monotonic()
        assert -1 < float(child.ask("time.time()")) - before - offset < 10
        assert -1 < float(child.ask("time.monotonic()")) - steady < 10
    child.close()


@needs_compiler
def test_waits_take_as_long_as_ever_while_the_clock_is_wrong(tmp_path):
    wrong = Clock(tmp_path)
    child = Child(**wrong.environment)
    wrong.jump(3600)
    began = time.monotonic()
    assert child.ask("__import__('threading').Event().wait(0.2)") == "False"
    assert child.ask("__import__('queue').Queue().get(timeout=0.2)").startswith("Empty")
    assert 0.3 < time.monotonic() - began < 10
    child.close()


def test_a_counter_that_goes_back_or_away_is_found():
    before = {'a_total{x="1"}': 3.0, "b_count": 2.0}
    assert gone_back(before, {**before, "new_total": 1.0}) == []
    assert len(gone_back(before, {**before, "b_count": 1.0})) == 1
    assert len(gone_back(before, {"b_count": 2.0})) == 1
