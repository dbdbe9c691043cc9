"""Lines on a disk that is full for a while, and for nobody who reads."""

from __future__ import annotations

import errno
import json
import os
import time

import pytest

from ranker.metrics import line_output
from ranker.metrics.line_output import MOST_WAITING_BYTES, LineOutput
from tests.waiting import PATIENCE, wait_until


class Disk:
    """Takes so many bytes."""

    def __init__(self) -> None:
        self.room = 0
        self.held = b""

    def write(self, _: int, data: bytes) -> int:
        taken = data[: self.room]
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.held += taken
        self.room -= len(taken)
        return len(taken)


class Counts:
    """How many lines were written, and how many were lost."""

    def __init__(self) -> None:
        self.written = self.lost = 0

    def add(self, written: int, lost: int) -> None:
        self.written += written
        self.lost += lost


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.mark.parametrize("room", range(60))
def test_lines_after_a_full_disk_are_whole(disk, room):
    """Wherever the disk was full, the next line begins on a line of its own."""
    counts = Counts()
    output = LineOutput(-1, counts.add, disk.write)
    disk.room = room
    output.put([{"number": 1}, {"number": 2}, {"number": 3}])
    wait_until(lambda: counts.written + counts.lost == 3)
    whole = disk.held.count(b"\n")
    assert counts.written == whole
    disk.room = 1000
    output.put([{"number": 4}])
    assert output.close(PATIENCE)
    assert counts.written == whole + 1
    lines = disk.held.split(b"\n")
    assert [json.loads(line)["number"] for line in lines[:whole]] == [1, 2, 3][:whole]
    assert json.loads(lines[-2]) == {"number": 4}
    assert lines[-1] == b""


def test_each_time_that_a_disk_is_full_is_said_once(disk, caplog, monkeypatch):
    caplog.set_level("WARNING")
    counts = Counts()
    output = LineOutput(-1, counts.add, disk.write)
    for _ in range(2):
        for room in (0, 1, 0, 1000):  # it takes something in between
            disk.room = room
            lines = counts.written + counts.lost
            output.put([{"a": 1}])
            wait_until(lambda lines=lines: counts.written + counts.lost > lines)
        monkeypatch.setattr(line_output, "_STEADY_SECONDS", -1.0)
        output.put([{"a": 1}])
        wait_until(lambda: "again" in caplog.messages[-1])
        monkeypatch.setattr(line_output, "_STEADY_SECONDS", 3600.0)
    assert output.close(PATIENCE)
    full = "the access log can't be written: No space left on device"
    assert caplog.messages == [full, "the access log can be written again"] * 2


def test_nobody_waits_for_whoever_reads():
    read, write = os.pipe()
    counts = Counts()
    output = LineOutput(write, counts.add)
    long = {"text": "x" * 65_536}  # more than a pipe takes
    most = MOST_WAITING_BYTES // 65_536
    for _ in range(most + 5):
        output.put([long])
    assert 5 <= counts.lost <= 7
    began = time.monotonic()
    assert not output.close(0.05)
    assert time.monotonic() - began < PATIENCE
    os.close(read)
    assert output.close(PATIENCE)
    os.close(write)
