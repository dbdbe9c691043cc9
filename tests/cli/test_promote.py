"""`ranker promote` and `ranker rollback`, as the shell sees them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ranker.cli.main import cli

CONFIG = """\
models:
  books:
    source: books
    labels: {stable: 7, canary: 8}
    traffic: {stable: 95, canary: 5}  # by unit
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ranker.yaml"
    path.write_text(CONFIG)
    return path


def run(*arguments):
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_promote_prints_the_change_and_writes_it(config):
    result = run("promote", "books", "canary")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "--- ranker.yaml",
        "+++ ranker.yaml",
        "@@ -1,5 +1,5 @@",
        " models:",
        "   books:",
        "     source: books",
        "-    labels: {stable: 7, canary: 8}",
        "-    traffic: {stable: 95, canary: 5}  # by unit",
        "+    labels: {stable: 8, canary: 8, previous: 7}",
        "+    traffic: {stable: 100, canary: 0}  # by unit",
        "written: books: stable is 8, canary is 8, previous is 7; 100 % to stable",
    ]
    assert "labels: {stable: 8, canary: 8, previous: 7}" in config.read_text()


def test_nothing_is_said_of_traffic_that_no_label_has(config):
    config.write_text("models:\n  books:\n    source: books\n    labels: {canary: 8}\n")
    result = run("promote", "books", "canary", "--to", "night")
    assert result.stdout.splitlines()[-1] == "written: books: canary is 8, night is 8"


def test_a_dry_run_writes_nothing(config):
    result = run("promote", "books", "canary", "--dry-run")
    assert "\nnot written: books: stable is 8" in result.stdout
    assert config.read_text() == CONFIG


def test_rollback_after_a_promotion(config):
    run("promote", "books", "canary")
    assert run("rollback", "books").exit_code == 0
    assert "labels: {stable: 7, canary: 8, previous: 7}" in config.read_text()
    again = run("rollback", "books")
    assert again.exit_code == 0
    assert again.stdout.startswith("ranker.yaml: nothing to change: books: stable is 7, canary")


def test_rollback_of_a_canary(config):
    refused = run("rollback", "books")
    assert refused.exit_code == 1
    assert "`ranker rollback books canary`" in refused.stderr
    assert config.read_text() == CONFIG
    assert run("rollback", "books", "canary").exit_code == 0
    assert config.read_text() == CONFIG.replace("95", "100").replace("canary: 5", "canary: 0")


def test_a_file_that_can_not_be_written_stays(config, monkeypatch):
    def refuse(*_names):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.replace", refuse)
    result = run("promote", "books", "canary")
    assert result.exit_code == 1
    assert "ranker.yaml: can't be written: Read-only file system" in result.stderr
    assert config.read_text() == CONFIG
    assert [path.name for path in config.parent.iterdir()] == ["ranker.yaml"]
