from __future__ import annotations

import pytest

from ranker.ranking_log.reader import RankingLogError, in_batches, open_log
from tests.ranking_log.support import Workers, entry, read


def ids(lists) -> list[str]:
    return [each.request.request_id for each in lists]


def test_files_of_several_workers_are_read_in_the_order_of_the_answers(tmp_path):
    workers = Workers(tmp_path)
    for first in (0, 1):
        workers.write(*(entry(str(at), at=at) for at in range(first, 10, 2)))
    workers.write(*(entry(str(at), at=at) for at in range(20, 23)))
    assert ids(read(tmp_path)) == [*map(str, range(10)), "20", "21", "22"]


def test_one_file_is_a_log_whatever_its_name(tmp_path):
    Workers(tmp_path).write(entry("a"))
    [path] = tmp_path.iterdir()
    renamed = path.rename(tmp_path / "kept.tfrecord")
    assert ids(read(renamed)) == ["a"]


def test_a_torn_end_is_told_and_the_rest_is_read(tmp_path, caplog):
    workers = Workers(tmp_path)
    workers.write(entry("a"), entry("b", at=1))
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    workers.write(entry("c", at=2))
    with open_log(str(tmp_path)) as log:
        assert ids(log.lists()) == ["a", "c"]
        assert log.torn == [path.name]
    assert f"{path.name}: it ends within a record" in caplog.text


def test_a_file_whose_last_blocks_were_not_written_leaves_the_others_readable(tmp_path):
    """As a machine leaves it that stops at once: from some byte on it is zero."""
    workers = Workers(tmp_path)
    workers.write(entry("a"), entry("b", at=1))
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    workers.write(entry("c", at=2))
    path.write_bytes(content[:-50] + bytes(50))
    with open_log(str(tmp_path)) as log:
        assert ids(log.lists()) == ["a", "c"]
        assert log.torn == [path.name]


def test_a_changed_byte_is_an_error_that_names_the_file(tmp_path):
    Workers(tmp_path).write(entry("a"))
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    with pytest.raises(RankingLogError, match=rf"{path.name}: the record at byte 0 is corrupt"):
        read(tmp_path)


def test_a_file_that_is_removed_meanwhile_is_told_once_and_the_rest_is_read(tmp_path, caplog):
    """By a server that keeps to its bound, before it is opened."""
    workers = Workers(tmp_path)
    for at, name in enumerate("abc"):
        workers.write(entry(name, at=at))
    [_, path, _] = sorted(tmp_path.iterdir())
    with open_log(str(tmp_path)) as log:
        path.unlink()
        for _ in range(2):
            assert ids(log.lists()) == ["a", "c"]
        assert log.removed == [path.name]
    assert caplog.text.count(f"{path.name}: it was removed") == 1


def test_a_log_that_is_removed_altogether_is_an_error_and_not_an_empty_log(tmp_path):
    Workers(tmp_path).write(entry("a"))
    with open_log(str(tmp_path)) as log:
        for path in tmp_path.iterdir():
            path.unlink()
        with pytest.raises(RankingLogError, match=r"all files .* were removed"):
            list(log.lists())


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_no_log_is_an_error(tmp_path, what):
    place = tmp_path / what
    if what == "empty":
        place.mkdir()
    with pytest.raises(RankingLogError, match=what):
        read(place)


def test_progress_goes_from_begin_to_end(tmp_path):
    Workers(tmp_path).write(*(entry(str(at), at=at) for at in range(5)))
    told: list[float] = []
    with open_log(str(tmp_path)) as log:
        list(log.lists(told.append))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_batches_have_enough_candidates(tmp_path):
    Workers(tmp_path).write(*(entry(str(at), at=at) for at in range(5)))  # 2 candidates each
    assert [len(some) for some in in_batches(read(tmp_path), 3)] == [2, 2, 1]
