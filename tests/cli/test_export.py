"""`ranker export`, as the shell sees it: what it writes, and errors of one line."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost as xgb
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.model import Model

ROWS = np.random.default_rng(0).normal(size=(60, 2))


@pytest.fixture
def books(tmp_path):
    path = tmp_path / "books.ubj"
    xgb.train({"max_depth": 2}, xgb.DMatrix(ROWS, ROWS[:, 0]), 2).save_model(path)
    return path


@pytest.fixture
def export():
    """Runs the command; what it printed at the end, and how it ended."""

    def export(*arguments):
        result = CliRunner().invoke(cli, ["export", *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return export


def test_it_writes_and_reports(export, books, tmp_path):
    path = tmp_path / "books.onnx"
    result = export(books, "-o", path, "--name", "books", "--version", "7")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{path}: 2 trees of at most 2 splits deep, 2 features")
    model = Model.load(path)
    assert (model.name, model.version) == ("books", "7")


def test_zero_to_zero_stands_for_all_rounds_and_says_so(export, books, tmp_path):
    result = export(books, "-o", tmp_path / "books.onnx", "--iteration-range", "0:0")
    assert result.exit_code == 0
    assert "rounds 0:2 of 2: all, as asked by 0:0\n" in result.stdout
    assert "0:0 stands for all rounds" in " ".join(export("--help").stdout.split())


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        pytest.param("missing/books.onnx", "there is no folder {folder}/missing", id="no-folder"),
        pytest.param(".", "it is a directory; name a file in it", id="a-folder"),
        pytest.param("file/books.onnx", "there is no folder {folder}/file", id="below-a-file"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(export, books, tmp_path, where, reason):
    (tmp_path / "file").touch()
    result = export(books, "-o", tmp_path / where)
    assert result.exit_code == 1
    reason = reason.format(folder=tmp_path)
    assert result.stderr == f"Error: {tmp_path / where}: can't be written: {reason}\n"


def test_a_full_or_forbidden_disk_is_one_line(export, books):
    result = export(books, "-o", "/proc/books.onnx")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: /proc/books.onnx: can't be written: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param(["--name", "a b/c"], "name 'a b/c': expected 1 to 128 characters", id="name"),
        pytest.param(["--version", " "], "version ' ': expected 1 to 128 characters", id="version"),
    ],
)
def test_a_name_that_is_none_is_one_line(export, books, tmp_path, options, reason):
    result = export(books, "-o", tmp_path / "books.onnx", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {reason}")
    assert result.stderr.count("\n") == 1
