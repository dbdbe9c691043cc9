from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from hashlib import sha256

import pytest

from ranker.categories import Categories
from ranker.ranking_log.exclusion import Exclusion
from ranker.v1 import ranking_pb2 as pb
from tests.ranking_log.support import BOOKS, START, Workers, entry, read, request
from tests.waiting import PATIENCE, wait_until

RECORDS = "ranker_ranking_log_records_total"
DROPPED = "ranker_ranking_log_dropped_total"
FILES = "ranker_ranking_log_files_total"


@pytest.fixture
def workers(tmp_path) -> Workers:
    return Workers(tmp_path / "log")


def test_records_have_what_was_asked_and_answered(workers):
    first, second = entry("r1"), entry("r2", at=0.25)
    workers.write(first, second)
    one, two = read(workers.folder)
    for written, found in ((first, one), (second, two)):
        assert found.record.request == written.request
        assert found.record.response == written.response
        assert found.record.time_unix_nanos == written.time
        assert found.record.trace_id == "0af7651916cd43dd8448eb211c80319c"
        assert found.feature_names == BOOKS.feature_names
    record = one.record
    assert (record.model, record.model_version, record.model_sha256) == ("books", "7", "ab" * 32)
    assert (record.arm, record.engine, record.sample_rate) == ("stable", "simd", 0.5)
    assert record.sampled_by_unit
    assert list(record.model_feature_names) == list(BOOKS.feature_names)
    assert not two.record.model_feature_names  # once for each model in a file
    assert workers.metric(RECORDS) == 2
    assert workers.metric(FILES, "finished") == 1


def test_each_model_tells_its_names_once_in_a_file(workers):
    other = replace(BOOKS, version="8", digest="cd" * 32, feature_names=("year",))
    workers.write(entry("a"), entry("b", origin=other), entry("c", origin=other), entry("d"))
    found = read(workers.folder)
    assert [each.feature_names for each in found] == [
        *(BOOKS.feature_names, ("year",)),
        *(("year",), BOOKS.feature_names),
    ]
    assert [len(each.record.model_feature_names) for each in found] == [2, 1, 0, 0]


def test_what_codes_stand_for_is_told_once_in_a_file(workers):
    coded = replace(BOOKS, categories={"age": Categories(["old", "new"])})
    other = replace(BOOKS, digest="cd" * 32)
    workers.write(entry(origin=coded), entry(origin=other), entry(origin=coded))
    found = read(workers.folder)
    digest = sha256(b'["old","new"]').hexdigest()
    assert [each.categories for each in found] == [{"age": digest}, {}, {"age": digest}]
    assert [len(each.record.model_categories_sha256) for each in found] == [1, 0, 0]


def test_a_trace_that_is_none_is_left_out(workers):
    workers.write(entry()._replace(traceparent="00-nonsense"), entry()._replace(traceparent=None))
    assert [each.record.trace_id for each in read(workers.folder)] == ["", ""]


def test_a_file_is_finished_at_its_size(tmp_path):
    workers = Workers(tmp_path, max_bytes=2**20, workers=2)  # 128 KiB a file
    workers.write(*(entry(str(at), at=at, padding=30_000) for at in range(10)))
    sizes = [path.stat().st_size for path in tmp_path.glob("*.tfrecord")]
    assert len(sizes) == 3
    assert max(sizes) <= 2**17
    assert [each.request.request_id for each in read(tmp_path)] == [*map(str, range(10))]


def test_a_file_is_finished_at_its_age(workers):
    now = [0.0]
    workers.options |= {"clock": lambda: now[0], "segment_seconds": 60.0}
    writer = workers.writer()
    writer.start()
    writer.add(entry("old"))
    wait_until(lambda: workers.metric(RECORDS) == 1)
    assert not list(workers.folder.glob("*.tfrecord"))
    now[0] = 61.0
    wait_until(lambda: list(workers.folder.glob("*.tfrecord")))
    writer.add(entry("new", at=61))
    writer.close(PATIENCE)
    assert len(list(workers.folder.iterdir())) == 2
    assert [each.request.request_id for each in read(workers.folder)] == ["old", "new"]


def test_the_oldest_files_are_removed_for_room(tmp_path):
    workers = Workers(tmp_path, max_bytes=2**20)
    workers.write(*(entry(str(at), at=at, padding=30_000) for at in range(100)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2**20
    kept = [int(each.request.request_id) for each in read(tmp_path)]
    assert kept == [*range(kept[0], 100)]
    assert kept[0] > 50
    assert workers.metric(FILES, "removed") == workers.metric(FILES, "finished") - len(
        list(tmp_path.iterdir())
    )


def test_what_does_not_fit_while_the_disk_is_slow_is_counted(workers):
    workers.options["buffer_bytes"] = 3 * entry(padding=1000).size
    workers.write(*(entry(str(number), padding=1000) for number in range(10)))
    assert [each.request.request_id for each in read(workers.folder)] == ["0", "1", "2"]
    assert workers.metric(DROPPED, "busy") == 7


def test_a_dead_folder_is_said_once_and_counted_until_it_is_back(workers, caplog):
    caplog.set_level("INFO")
    workers.folder.write_text("not a folder")
    workers.options["clock"] = lambda: time.monotonic() * 50  # so that it retries at once
    writer = workers.writer()
    writer.start()
    for number in range(3):
        writer.add(entry(f"lost {number}"))
        wait_until(lambda: workers.metric(DROPPED, "disk") == number + 1)  # noqa: B023
    workers.folder.unlink()
    writer.add(entry("kept"))
    wait_until(lambda: workers.metric(RECORDS) == 1)
    writer.close(PATIENCE)
    assert [each.request.request_id for each in read(workers.folder)] == ["kept"]
    messages = [record.getMessage() for record in caplog.records]
    assert len([each for each in messages if "can't be written" in each]) == 1
    assert messages[-1] == "the ranking log can be written again"


def test_a_folder_that_is_removed_is_made_again(workers):
    writer = workers.writer()
    writer.start()
    writer.add(entry("gone"))
    wait_until(lambda: workers.metric(RECORDS) == 1)
    shutil.rmtree(workers.folder)
    writer.add(entry("dropped"))
    wait_until(lambda: workers.metric(DROPPED, "disk") == 1)
    writer.add(entry("kept"))
    writer.close(PATIENCE)
    assert [each.request.request_id for each in read(workers.folder)] == ["kept"]


def test_a_full_disk_leaves_whole_records(workers, monkeypatch):
    from ranker.ranking_log import segment_files

    def full(fd, pieces):
        segment_files.os.write(fd, pieces[0])
        raise OSError(28, "No space left on device")

    writer = workers.writer()
    writer.start()
    writer.add(entry("before"))
    wait_until(lambda: workers.metric(RECORDS) == 1)
    with monkeypatch.context() as patched:
        patched.setattr(segment_files.os, "writev", full)
        writer.add(entry("lost"))
        wait_until(lambda: workers.metric(DROPPED, "disk") == 1)
    writer.add(entry("after", at=1))
    writer.close(PATIENCE)
    assert [each.request.request_id for each in read(workers.folder)] == ["before", "after"]
    assert workers.metric(FILES, "finished") == 2


def test_files_that_are_completed_after_an_error_are_bounded_too(tmp_path, monkeypatch):
    """A disk that fails again and again has a file completed each time."""
    from ranker.ranking_log import segment_files

    def full(*_):
        raise OSError(28, "No space left on device")

    workers = Workers(tmp_path, max_bytes=2**20, clock=lambda: time.monotonic() * 50)
    writer = workers.writer()
    writer.start()
    for number in range(10):
        writer.add(entry("kept", at=number, padding=200_000))
        wait_until(lambda: workers.metric(RECORDS) == number + 1)  # noqa: B023
        with monkeypatch.context() as patched:
            patched.setattr(segment_files.os, "writev", full)
            writer.add(entry("lost", at=number))
            wait_until(lambda: workers.metric(DROPPED, "disk") == number + 1)  # noqa: B023
            wait_until(lambda: not list(tmp_path.glob("*.open")))
    wait_until(lambda: workers.metric(FILES, "removed"))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2**20
    writer.close(PATIENCE)
    assert workers.metric(FILES, "finished") == 10


def test_a_file_of_a_killed_process_counts_once_it_is_completed(workers):
    workers.write(entry("a"))
    [path] = workers.folder.iterdir()
    path.rename(f"{path}.open")
    workers.write(entry("b", at=1))
    assert workers.metric(FILES, "finished") == 3


def test_what_a_dead_disk_loses_at_the_end_is_counted(workers):
    workers.folder.write_text("not a folder")
    writer = workers.writer()
    for number in range(30):
        writer.add(entry(str(number), padding=100_000))  # three batches
    writer.start()
    writer.close(PATIENCE)
    assert workers.metric(DROPPED, "disk") == 30


def test_a_disk_that_hangs_does_not_hold_up_the_end(workers, monkeypatch, caplog):
    from ranker.ranking_log import segment_files

    free, hangs = threading.Event(), threading.Event()
    writev = segment_files.os.writev

    def hang(fd, pieces):
        hangs.set()
        free.wait(PATIENCE)
        return writev(fd, pieces)

    monkeypatch.setattr(segment_files.os, "writev", hang)
    writer = workers.writer()
    writer.start()
    writer.add(entry("is being written"))
    assert hangs.wait(PATIENCE)
    for number in range(30):
        writer.add(entry(str(number), padding=100_000))
    writer.close(0.1)
    assert workers.metric(RECORDS) == 0, "it waited for the disk"
    assert "what is left of it is lost" in caplog.text
    assert workers.metric(DROPPED, "disk") == 30, "what waited is not counted"
    free.set()
    wait_until(lambda: not writer._thread.is_alive())
    assert (workers.metric(RECORDS), workers.metric(DROPPED, "disk")) == (1, 30)
    assert [each.request.request_id for each in read(workers.folder)] == ["is being written"]


def test_a_bug_costs_its_batch_and_no_more(workers, caplog):
    writer = workers.writer()
    writer.add(entry("bad")._replace(request=None))
    writer.start()
    wait_until(lambda: workers.metric(DROPPED, "failed") == 1)
    writer.add(entry("good"))
    writer.close(PATIENCE)
    assert [each.request.request_id for each in read(workers.folder)] == ["good"]
    assert "writing the ranking log failed" in caplog.text


def test_features_are_left_out_and_said_to_be(workers):
    workers.options["exclusion"] = Exclusion(["age"])
    without = request([[5.0]], feature_names=["price"], request_id="without")
    explained = pb.RankResponse(indices=[0], explanations=[pb.Explanation(bias=1.0)])
    workers.write(entry("with", answered=explained), entry(asked=without, answered=explained))
    first, second = read(workers.folder)
    assert (len(first.response.explanations), len(second.response.explanations)) == (0, 1)
    assert list(first.record.excluded_features) == ["age"]
    assert b"\x00\x00\x80\x3f" not in first.record.request  # 1.0, an age
    assert first.request.request_id == "with"
    assert not second.record.excluded_features
    assert second.record.request == without.SerializeToString()


def test_a_list_whose_columns_nobody_names_is_not_logged_where_features_are_excluded(workers):
    workers.options["exclusion"] = Exclusion(["age"])
    workers.write(entry("r", origin=replace(BOOKS, feature_names=())))
    assert not list(workers.folder.iterdir())
    assert workers.metric(DROPPED, "nameless") == 1
    assert workers.metric(RECORDS) == 0


def test_names_sort_by_the_time_of_their_first_record(workers):
    workers.write(entry("later", at=3.5))
    [path] = workers.folder.iterdir()
    assert path.name.startswith("rankings-20261128T194946.500000000Z-")
    assert START == 1_795_895_383 * 10**9
