from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ranker.errors import SourceError
from ranker.ranking_log.segment_files import (
    Segment,
    adopt,
    finished,
    first_time,
    folder_of,
    is_finished,
    make_room,
)
from ranker.ranking_log.tfrecord import framed

SECOND = 10**9
LEFT_BEHIND = """
import os, sys, time
from pathlib import Path
from ranker.ranking_log.segment_files import Segment
from ranker.ranking_log.tfrecord import framed
segment = Segment(Path(sys.argv[1]), 1)
segment.write(framed([b"kept"]))
print("written", flush=True)
time.sleep(60)
"""


def completed(folder, at: int, size: int = 100):
    segment = Segment(folder, at * SECOND)
    segment.write([bytes(size)])
    segment.finish()
    return finished(folder)[-1]


def test_a_file_is_complete_once_it_has_its_name(tmp_path):
    segment = Segment(tmp_path, 1_795_895_383_000_000_007)
    segment.write(framed([b"a"]))
    assert finished(tmp_path) == []
    segment.finish()
    [path] = finished(tmp_path)
    assert first_time(path.name) == 1_795_895_383_000_000_007
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_without_records_leaves_nothing(tmp_path):
    Segment(tmp_path, 1).finish()
    assert not list(tmp_path.iterdir())


def test_a_file_of_a_killed_process_is_finished_by_the_next_and_no_sooner(tmp_path):
    command = [sys.executable, "-c", LEFT_BEHIND, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        assert adopt(tmp_path) == 0
        assert finished(tmp_path) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert adopt(tmp_path) == 1
    [path] = finished(tmp_path)
    assert path.read_bytes() == b"".join(framed([b"kept"]))


def test_a_file_that_is_looked_at_as_it_is_made_is_locked_all_the_same(tmp_path, monkeypatch):
    """Whoever looks for files that were left behind locks each for a moment, also a new one."""
    make, looks = os.open, []

    def make_and_look(path, *arguments):
        made = make(path, *arguments)
        if Path(path).parent == tmp_path and not looks:
            look = make(path, os.O_RDONLY)
            fcntl.flock(look, fcntl.LOCK_EX | fcntl.LOCK_NB)
            looks.append(threading.Timer(0.1, os.close, [look]))
            looks[0].start()
        return made

    monkeypatch.setattr(os, "open", make_and_look)
    segment = Segment(tmp_path, 1)
    looks[0].join()
    segment.write(framed([b"a"]))
    adopt(tmp_path)
    assert finished(tmp_path) == []
    segment.finish()
    assert len(finished(tmp_path)) == 1


def test_an_empty_file_that_was_left_behind_is_removed_in_a_while(tmp_path):
    path = tmp_path / "rankings-20261128T194946.500000000Z-00000000.tfrecord.open"
    path.touch()
    assert adopt(tmp_path) == 0
    assert path.exists()
    past = time.time() - 100
    os.utime(path, (past, past))
    assert adopt(tmp_path) == 0
    assert not path.exists()


def test_more_pieces_than_one_write_takes(tmp_path):
    pieces = [bytes([number % 251]) for number in range(3000)]
    segment = Segment(tmp_path, 1)
    segment.write(pieces)
    segment.finish()
    assert finished(tmp_path)[0].read_bytes() == b"".join(pieces)


def test_room_is_made_by_the_oldest_and_leaves_other_files_alone(tmp_path):
    for at in (3, 1, 2):
        completed(tmp_path, at)
    (tmp_path / "notes.txt").write_bytes(bytes(1000))
    assert make_room(tmp_path, 200) == 1
    assert [first_time(path.name) for path in finished(tmp_path)] == [2 * SECOND, 3 * SECOND]
    assert make_room(tmp_path, 200) == 0
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("newest", ["complete", "open"])
def test_after_the_clock_was_set_back_room_is_made_by_the_oldest_all_the_same(
    tmp_path, monkeypatch, newest
):
    now = 1000.0
    monkeypatch.setattr(time, "time_ns", lambda: round(now * SECOND))
    completed(tmp_path, 996)
    before = Segment(tmp_path, 998 * SECOND)
    before.write([b"before"])
    if newest == "complete":
        before.finish()
    now = 500.0
    for at in (497, 498):
        segment = Segment(tmp_path, at * SECOND)
        segment.write([b"after %d" % at])
        segment.finish()
    if newest == "open":
        before.finish()
    assert make_room(tmp_path, 20) == 2
    assert [path.read_bytes() for path in finished(tmp_path)] == [b"after 497", b"after 498"]


def test_a_file_of_another_worker_that_began_later_does_not_change_a_name(tmp_path):
    """Records wait for a moment before they are written; the clock is right."""
    now = time.time_ns()
    Segment(tmp_path, now)
    Segment(tmp_path, now - 7).write([b"a"])
    assert now - 7 in [first_time(path.name) for path in tmp_path.iterdir()]


def test_what_is_called_as_a_file_of_the_log_and_is_none_is_left_alone(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    for number, suffix in enumerate([".tfrecord", ".tfrecord.open"]):
        name = f"rankings-20261128T194946.50000000{number}Z-0000000%d{suffix}"
        os.mkfifo(tmp_path / (name % 1))
        (tmp_path / (name % 2)).mkdir()
    (tmp_path / (name % 3)).symlink_to(other)
    before = sorted(tmp_path.iterdir())
    adopt(tmp_path)
    assert finished(tmp_path) == []
    assert make_room(tmp_path, 0) == 0
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["rankings.tfrecord", "x.tfrecord.open", "notes.txt"])
def test_other_names_are_none_of_its_files(name):
    assert not is_finished(name)
    with pytest.raises(ValueError, match="no name of a file"):
        first_time(name)


def test_a_bucket_has_a_folder_of_its_own_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, two = (folder_of(f"gs://bucket/{name}", "") for name in ("a", "b"))
    assert one.parent == two.parent == tmp_path / "ranker/rankings"
    assert one != two
    assert folder_of("s3://bucket/a", "/else").parts[:3] == ("/", "else", "rankings")
    assert folder_of(f"file://{tmp_path}/log", "") == tmp_path / "log"


@pytest.mark.parametrize("address", ["ftp://host/x", "file://host/x"])
def test_other_addresses_are_refused(address):
    with pytest.raises(SourceError, match="expected a path"):
        folder_of(address, "")


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(SourceError, match="expected a folder, got a file"):
        folder_of(str(path), "")
