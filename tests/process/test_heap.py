"""Freed memory is kept for the next request, or given back, as was asked."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from ranker.process.heap import keep_freed_memory, return_freed_arrays
if sys.argv[1] == "kept":
    assert keep_freed_memory()
if sys.argv[1] == "returned":
    assert return_freed_arrays()
if sys.argv[1] in ("returned", "large one first"):
    del bytearray(8_000_000)[:]  # glibc keeps smaller ones from now on
def turn():  # the messages of a turn: 32 of 26 kB, and one of 512 kB
    return [bytearray(26_000) for _ in range(32)] + [bytearray(512_000)]
for _ in range(20):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc has the settings"
)


def faults(how: str) -> int:
    command = [sys.executable, "-c", SCRIPT, how]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_freed_memory_is_kept():
    assert faults("kept") < 100  # less than one a turn
    assert faults("given back") > 1000


def test_freed_arrays_are_given_back():
    assert faults("large one first") < 1000
    assert faults("returned") > 10_000  # the array of 512 kB has 125 pages
