from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from ranker.errors import SourceUnavailableError
from ranker.metrics.ranking_log_recorder import RankingLogRecorder
from ranker.ranking_log import upload
from ranker.ranking_log.upload import Uploader
from tests.ranking_log.support import Workers, entry
from tests.waiting import PATIENCE, wait_until

FILES = "ranker_ranking_log_files_total"


class Memory:
    """A place of files that may fail.

    Attributes:
        takes: whoever creates a file waits until this is set, as it is at first.
    """

    address = "gs://bucket/log"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.tried = 0
        self.takes = Event()
        self.takes.set()

    def create(self, key: str, content) -> None:
        self.tried += 1
        assert self.takes.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        if key in self.files:
            raise FileExistsError(key)
        self.files[key] = bytes(content)


@pytest.fixture
def place() -> Memory:
    return Memory()


@pytest.fixture
def workers(tmp_path, monkeypatch) -> Workers:
    monkeypatch.setattr(upload, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(upload, "_RETRY_SECONDS", 0.05)
    return Workers(tmp_path / "log")


def uploader(workers: Workers, place: Memory) -> Uploader:
    slot = workers.aggregates.layout.slot("office")
    return Uploader(workers.folder, place, RankingLogRecorder(workers.aggregates, slot))


def test_complete_files_go_up_and_leave(workers, place):
    place.takes.clear()
    running = uploader(workers, place)  # before there is a folder
    workers.write(entry("a"))
    [path] = workers.folder.glob("*.tfrecord")
    content = path.read_bytes()
    place.takes.set()
    wait_until(lambda: place.files)
    running.close()
    assert place.files == {path.name: content}
    assert not list(workers.folder.iterdir())
    assert workers.metric(FILES, "uploaded") == 1


def test_the_last_files_go_up_at_the_end(workers, place, monkeypatch):
    monkeypatch.setattr(upload, "_LOOK_SECONDS", 3600.0)
    running = uploader(workers, place)
    workers.write(entry("a"), entry("b"))
    running.close()
    assert len(place.files) == 1


def test_a_file_that_is_completed_at_the_end_counts(workers, place, monkeypatch):
    """Its worker was killed, and no other one has begun since."""
    monkeypatch.setattr(upload, "_LOOK_SECONDS", 3600.0)
    running = uploader(workers, place)
    workers.write(entry("a"))
    [path] = workers.folder.iterdir()
    path.rename(f"{path}.open")
    running.close()
    assert place.files.keys() == {path.name}
    assert workers.metric(FILES, "finished") == 2


def test_a_dead_bucket_is_said_once_and_its_files_wait(workers, place, caplog):
    caplog.set_level("INFO")
    place.error = SourceUnavailableError(place.address, "", "no answer")
    workers.write(entry("a"))
    running = uploader(workers, place)
    wait_until(lambda: place.tried >= 3)
    assert len(list(workers.folder.glob("*.tfrecord"))) == 1
    place.error = None
    wait_until(lambda: place.files)
    running.close()
    messages = [record.getMessage() for record in caplog.records]
    assert [each for each in messages if "can't be uploaded" in each] == [
        "the ranking log can't be uploaded: gs://bucket/log: no answer; it is tried again"
    ]
    assert messages[-1] == "the ranking log is uploaded again"
    assert workers.metric(FILES, "not_uploaded") >= 3


def test_a_file_that_is_there_already_is_not_written_over(workers, place):
    workers.write(entry("a"))
    [path] = workers.folder.glob("*.tfrecord")
    place.files[path.name] = b"as it was"
    uploader(workers, place).close()
    assert place.files == {path.name: b"as it was"}
    assert not list(workers.folder.iterdir())


def test_a_file_without_anything_in_it_holds_nobody_up(workers, place, caplog):
    """As a machine leaves it that stops before what was written reaches the disk."""
    workers.write(entry("a"))
    [path] = workers.folder.glob("*.tfrecord")
    empty = path.with_name(path.name.replace("-2", "-1", 1))  # of another millennium
    empty.touch()
    uploader(workers, place).close()
    assert place.files.keys() == {path.name}
    assert not list(workers.folder.iterdir())
    assert f"{empty} is empty" in caplog.text


def test_a_file_that_can_not_be_read_holds_nobody_up(workers, place, caplog, monkeypatch):
    workers.write(entry("a"))
    [path] = workers.folder.glob("*.tfrecord")
    other = path.with_name(path.name.replace("-2", "-1", 1))
    other.write_bytes(b"x")
    can_open = Path.open

    def refuse(file: Path, *arguments: object) -> object:
        if file == other:
            raise PermissionError(13, "Permission denied")
        return can_open(file, *arguments)

    monkeypatch.setattr(Path, "open", refuse)
    running = uploader(workers, place)
    wait_until(lambda: workers.metric(FILES, "not_uploaded") > 2)
    running.close()
    assert place.files.keys() == {path.name}
    assert caplog.text.count("can't be uploaded") == 1
