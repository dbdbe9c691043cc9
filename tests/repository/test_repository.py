"""Sources on this machine: a file, and a folder of versions."""

import pytest

from ranker.errors import SourceError
from ranker.model import ModelFile
from ranker.repository.fetched import Fetched
from ranker.repository.repository import open_repository
from tests.repository.conftest import make_model


def versions(source: object) -> list[str]:
    return list(open_repository(str(source)).poll())


@pytest.fixture
def folder(put, tmp_path):
    """A folder with versions 9 and 10."""
    put(tmp_path / "books", "10", 1)
    put(tmp_path / "books", "9", 0)
    return tmp_path / "books"


def test_a_folders_versions_come_the_newest_last(folder):
    assert versions(folder) == versions(f"file://{folder}") == ["9", "10"]


def test_what_is_not_complete_is_not_there(folder):
    (folder / "9" / "manifest.json").unlink()
    (folder / "10" / "model.onnx").unlink()
    (folder / ".git").mkdir()
    (folder / "notes.txt").touch()
    assert versions(folder) == []


def test_a_link_to_nothing_is_not_there(folder):
    """As editors leave it beside a file that is open."""
    (folder / "9" / ".#model.onnx").symlink_to("somebody@somewhere.1234")
    (folder / ".#notes.txt").symlink_to("somebody@somewhere.1234")
    assert versions(folder) == ["9", "10"]


def test_a_folder_that_may_not_be_listed_is_left_out_and_that_is_said_once(folder, forbid, caplog):
    """`lost+found`, where a file system of its own is the repository."""
    forbid(folder / "lost+found")
    repository = open_repository(str(folder))
    for _ in range(2):
        assert repository.poll() == ("9", "10")
    assert caplog.messages == [f"{folder}: lost+found is left out: Permission denied"]


def test_a_version_is_used_where_it_lies(folder, models):
    fetched = open_repository(str(folder)).fetch("10")
    assert fetched.path == folder / "10" / "model.onnx"
    assert fetched.sha256 == ModelFile.read(fetched.path).digest == models[1].digest


def test_another_model_in_its_place_is_refused(folder):
    repository = open_repository(str(folder))
    model = folder / "10" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(
        SourceError, match=r"books, version 10: .* expected sha256 [0-9a-f]{64}, go"
    ):
        repository.fetch("10")
    model.write_bytes(content[:-1])
    with pytest.raises(SourceError, match=r"version 10: .* expected \d+ bytes, got \d+"):
        repository.fetch("10")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        pytest.param(
            "8", "version 8: there is no such version; the newest of 2 are: 9, 10", id="8"
        ),
        pytest.param("../10", "that can't be the name of a version", id="a-way-out"),
    ],
)
def test_a_version_that_is_not_there_is_named(folder, version, message):
    with pytest.raises(SourceError, match=message) as caught:
        open_repository(str(folder)).fetch(version)
    assert (caught.value.source, caught.value.version) == (str(folder), version)


def test_a_half_published_version_says_so(folder):
    (folder / "10" / "manifest.json").unlink()
    with pytest.raises(SourceError, match="it is not complete"):
        open_repository(str(folder)).fetch("10")


def test_a_model_that_has_gone_says_so(folder):
    (folder / "10" / "model.onnx").unlink()
    with pytest.raises(SourceError, match=r"version 10: model.onnx is not there"):
        open_repository(str(folder)).fetch("10")


def test_a_folder_that_goes_is_named(folder):
    repository = open_repository(str(folder))
    folder.rename(folder.with_name("away"))
    with pytest.raises(SourceError, match=r"books: there is no such folder"):
        repository.poll()


@pytest.mark.parametrize("source", ["/nothing/here", "file:///nothing/here", "ftp://host/books"])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(SourceError, match=source):
        open_repository(source)


def test_a_file_is_one_version(tmp_path):
    path = make_model(tmp_path, version="7")
    repository = open_repository(str(path))
    assert repository.poll() == repository.cached() == ("7",)
    assert repository.fetch("7") == Fetched(path, ModelFile.read(path).digest)
    with pytest.raises(SourceError, match=r"version 8: there is no such version; the file is 7"):
        repository.fetch("8")


def test_a_file_that_is_written_again_is_another_model(tmp_path):
    path = make_model(tmp_path, version="7")
    repository = open_repository(f"file://{path}")
    before = repository.fetch("7")
    assert repository.fetch("7") == before
    make_model(tmp_path, 1, version="7").replace(path)
    assert repository.fetch("7") == Fetched(path, ModelFile.read(path).digest) != before


def test_a_file_that_is_no_model_is_named(tmp_path):
    path = tmp_path / "books.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(SourceError, match=r"books.onnx: not an ONNX file"):
        open_repository(str(path)).poll()
