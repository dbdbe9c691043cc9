"""`ranker check`: what is wrong with its line, and what would be served."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.model import ModelFile
from ranker.repository.publication import publish
from tests.repository.conftest import make_model

CONFIG = """\
models:
  books:
    source: books
    versions: {latest: 1}
    labels: {stable: 7, canary: 8}
    traffic: {stable: 95, canary: 5}
    shadow: {version: 7, share: 0.1}
"""


@pytest.fixture
def check(tmp_path):
    def check(text, *arguments):
        path = tmp_path / "ranker.yaml"
        path.write_text(text)
        result = CliRunner().invoke(cli, ["check", str(path), *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return check


def test_all_that_is_wrong_with_its_place(check):
    result = check("models:\n  a: {}\n  b: {source: x, labels: {s: 1}, traffic: {t: 100}}\n")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "ranker.yaml:2:6: models.a.source: is required",
        "ranker.yaml:3:6: models.b: traffic: t is no label; there are: s",
    ]
    assert result.stdout == ""


def test_a_version_that_yaml_reads_as_something_else(check):
    result = check("models:\n  a: {source: x, labels: {stable: 007}}\n", "--offline")
    assert result.exit_code == 1
    assert result.stderr == (
        "ranker.yaml:2:35: models.a.labels.stable: expected text, got the number 7 (it is written "
        "007): put it in quotes\n"
    )


def test_what_has_no_effect_is_a_warning(check):
    guarded = "models:\n  a: {source: x, labels: {stable: 1, b: 2}, guard: {errors: 1%}}\n"
    result = check(guarded, "--offline")
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: a: guard: there is no `traffic`, so that it has no version to watch\n"
    )


def test_offline_asks_no_source(check):
    result = check(CONFIG + "  films: {source: 'gs://nowhere/films'}\n", "--offline")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "model  version   label   traffic  shadow  source",
        "books  7         stable     95 %          books",
        "books  8         canary      5 %          books",
        "books  latest 1                           books",
        "books  7                            10 %  books",
        "films  latest 1                           gs://nowhere/films",
    ]


def test_what_would_be_served(check, tmp_path):
    for version, seed in {"7": 0, "8": 1, "9": 2}.items():
        file = ModelFile.read(make_model(tmp_path, seed))
        publish(file, str(tmp_path / "books"), version, progress=str)
    result = check(CONFIG)
    assert result.exit_code == 0
    lines = [line.split()[:6] for line in result.stdout.splitlines()]
    assert lines == [
        ["model", "version", "labels", "traffic", "shadow", "trees"],
        ["books", "7", "stable", "95", "%", "10"],
        ["books", "9", "0", "%", *lines[2][4:]],
        ["books", "8", "canary", "5", "%", lines[3][5]],
    ]
    assert file.digest[:12] in result.stdout


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda _folder: None, "there is no such file or folder", id="no-source"),
        pytest.param(
            lambda folder: publish(
                ModelFile.read(make_model(folder)), str(folder / "books"), "7", progress=str
            ),
            "version 8: there is no such version",
            id="no-version",
        ),
        pytest.param(
            lambda folder: (folder / "books").write_bytes(b"no model"),
            "not an ONNX file",
            id="no-model",
        ),
    ],
)
def test_what_a_source_has_not(check, tmp_path, make, reason):
    make(tmp_path)
    result = check(CONFIG)
    assert result.exit_code == 1
    assert reason in result.stderr
