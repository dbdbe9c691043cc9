"""Publishing into a folder: what is written, in which order, and what is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ranker.errors import SourceError
from ranker.model import ModelFile
from ranker.repository.folder import Folder
from ranker.repository.publication import publish
from ranker.repository.repository import open_repository
from tests.repository.conftest import make_model


def quiet(_: str) -> None:
    pass


def test_the_manifest_is_written_last(put, tmp_path, monkeypatch):
    written = []
    create = Folder.create

    def noting(self, key, content):
        create(self, key, content)
        written.append((key, sorted(os.listdir(tmp_path / "books" / "8"))))

    monkeypatch.setattr(Folder, "create", noting)
    put(tmp_path / "books", "8")
    assert written == [
        ("8/model.onnx", ["model.onnx"]),
        ("8/manifest.json", ["manifest.json", "model.onnx"]),
    ]


def test_without_a_version_it_is_the_next_number(put, tmp_path):
    folder = tmp_path / "books"
    assert put(folder).manifest.version == "1"
    assert put(folder, "9", 1).manifest.version == "9"
    (folder / "11").mkdir()
    (folder / "11" / "model.onnx").touch()  # of someone who is uploading
    assert put(folder, "", 2).manifest.version == "12"


def test_the_next_number_is_that_of_folders_that_can_be_listed(put, tmp_path, forbid):
    """Where only some can't, it is not 1."""
    put(tmp_path / "books", "9")
    forbid(tmp_path / "books" / "lost+found")
    assert put(tmp_path / "books", "", 1).manifest.version == "10"


def test_without_a_listing_there_is_no_next_number(put, tmp_path, forbid):
    put(tmp_path / "books", "9")
    forbid(tmp_path / "books")
    with pytest.raises(SourceError, match="books: can't be listed: Permission denied"):
        put(tmp_path / "books", "", 1)


def test_a_folder_that_somebody_makes_just_then_was_empty(put, tmp_path, monkeypatch):
    """Of several that publish first: another one makes the folder between two looks at it."""
    folder = tmp_path / "books"
    iterdir = Path.iterdir

    def late(path: Path) -> Iterator[Path]:
        try:
            return iter(list(iterdir(path)))
        except FileNotFoundError:
            folder.mkdir()
            raise

    monkeypatch.setattr(Path, "iterdir", late)
    assert put(folder).manifest.version == "1"


def test_without_a_version_it_is_the_files_own(tmp_path):
    file = ModelFile.read(make_model(tmp_path, version="7"))
    folder = str(tmp_path / "books")
    assert publish(file, folder, progress=quiet).manifest.version == "7"
    with pytest.raises(SourceError, match="the file says that it is version 7"):
        publish(file, folder, "8", progress=quiet)


def test_a_version_is_never_overwritten(put, models, tmp_path):
    folder = tmp_path / "books"
    put(folder, "8")
    with pytest.raises(SourceError, match=r"books, version 8: another model\.onnx is there"):
        put(folder, "8", 1)
    assert (folder / "8" / "model.onnx").read_bytes() == bytes(models[0].onnx.content)


def test_the_same_again_changes_nothing_and_says_so(put, tmp_path):
    folder = tmp_path / "books"
    assert put(folder, "8").new
    before = open_repository(str(folder)).poll()
    assert not put(folder, "8").new
    assert open_repository(str(folder)).poll() == before


def test_what_was_broken_off_is_completed(put, tmp_path):
    folder = tmp_path / "books"
    put(folder, "8")
    (folder / "8" / "manifest.json").unlink()
    assert put(folder, "8").new
    assert open_repository(str(folder)).fetch("8").path == folder / "8" / "model.onnx"


def test_a_forbidden_folder_is_named(put):
    with pytest.raises(SourceError, match=r"/proc/books, version 8: 8/model\.onnx can't be writ"):
        put("/proc/books", "8")


@pytest.mark.parametrize(
    "address", ["ftp://host/books", "gs://", "gs:/bucket/books", "s3://bucket", "file://books"]
)
def test_an_address_of_something_else_is_refused(put, address):
    with pytest.raises(SourceError, match="expected a"):
        put(address, "8")
