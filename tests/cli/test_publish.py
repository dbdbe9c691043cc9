"""`ranker publish`, as the shell sees it."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.repository.repository import open_repository
from tests.repository.conftest import make_model


@pytest.fixture
def publish():
    def publish(*arguments):
        result = CliRunner().invoke(cli, ["publish", *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return publish


def test_it_publishes_and_says_how_to_serve(publish, tmp_path):
    model, folder = make_model(tmp_path), tmp_path / "books"
    result = publish(model, folder, "--version", "8")
    assert result.exit_code == 0
    assert f"{folder}/8/model.onnx: " in result.stdout
    assert result.stdout.endswith(
        f"published version 8\nServe it with:\n\n    ranker serve {folder}/8/model.onnx\n"
    )
    assert open_repository(str(folder)).fetch("8").path.read_bytes() == model.read_bytes()


def test_the_same_again_is_no_error(publish, tmp_path):
    model, folder = make_model(tmp_path), tmp_path / "books"
    publish(model, folder, "--version", "8")
    result = publish(model, folder, "--version", "8")
    assert result.exit_code == 0
    assert "version 8 was there" in result.stdout


def test_another_model_is_one_line(publish, tmp_path):
    folder = tmp_path / "books"
    publish(make_model(tmp_path, 0), folder, "--version", "8")
    result = publish(make_model(tmp_path, 1), folder, "--version", "8")
    assert result.exit_code == 1
    assert "8/model.onnx" not in result.stdout, "it was not written"
    assert result.stderr == (
        f"Error: {folder}, version 8: another model.onnx is there already, which is never "
        "overwritten: publish under another version\n"
    )


def test_what_can_not_be_written_is_not_said_to_be(publish, tmp_path):
    (tmp_path / "books").write_text("a file where a folder is to be")
    result = publish(make_model(tmp_path), tmp_path / "books", "--version", "8")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path}/books, version 8: ")
    assert "8/model.onnx" not in result.stdout


def test_what_is_no_model_is_not_published(publish, tmp_path):
    path = tmp_path / "books.onnx"
    path.write_bytes(b"no model")
    result = publish(path, tmp_path / "books")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {path}: not an ONNX file")
    assert not (tmp_path / "books").exists()


def test_a_bucket_without_the_extra_names_the_command(publish, tmp_path, monkeypatch):
    monkeypatch.setattr("ranker.distribution.find_spec", lambda name: name != "obstore" or None)
    result = publish(make_model(tmp_path), "gs://bucket/rankers/books")
    assert result.exit_code == 1
    assert "pip install 'tree-ranker[remote]'" in result.stderr


def test_a_folder_needs_no_extra(publish, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert publish(make_model(tmp_path), tmp_path / "books").exit_code == 0
