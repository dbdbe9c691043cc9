"""`ranker replay` and `ranker log` as a shell sees them: exit codes and what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.model import Model
from tests.quality.conftest import books
from tests.quality.test_replay import logged, models, origin, rows
from tests.ranking_log.support import Workers, entry

__all__ = ["books", "models", "rows"]


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def log(tmp_path, models, rows):
    """Five lists of the old model, the third of which has another score in the log."""
    old: Model = models[0]
    entries = []
    for at, block in enumerate(rows[:5]):
        asked, answered = logged(old, block[:, :2], request_id=f"r{at}")
        if at == 2:
            answered.scores[0] += 1
        entries.append(entry(at=at, origin=origin(old), asked=asked, answered=answered))
    folder = tmp_path / "log"
    Workers(folder).write(*entries)
    return folder


def test_a_difference_is_named_and_ends_with_1(log, books, tmp_path):
    document = tmp_path / "found.json"
    code, output = run("replay", log, "--model", books.old, "--json", document)
    assert code == 1
    assert "5 lists that books@1 ranked: 4 the same to the bit" in output
    assert "1 DIFFER, the first: request 'r2', answered at " in output
    assert json.loads(document.read_text())["different"] == 1


def test_the_first_so_many(log, books):
    code, output = run("replay", log, "--model", books.old, "--limit", 2)
    assert (code, output.splitlines()[0]) == (
        0,
        "2 lists that books@1 ranked: 2 the same to the bit",
    )


def test_another_model_with_outcomes(log, books, tmp_path):
    clicks = tmp_path / "clicks.csv"
    clicks.write_text("request_id,candidate_id,label\nr0,b3,1\nr1,b4,1\nelse,b1,1\n")
    code, output = run("replay", log, "--model", books.new, "--outcomes", clicks, "--movers", 1)
    assert code == 0
    assert (
        "2 of 5 lists have outcomes; 1 of the 3 outcomes are of no candidate that was shown in them"
    ) in output
    assert "5 lists of other models: " in output
    assert "missing in some or all lists: popularity" in output
    assert "changed most: request" in output
    assert "2 of them with outcomes, of the candidates that were shown:" in output
    assert "ndcg@10" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "expected --model FILE or --against HOST:PORT", id="neither"),
        pytest.param(["--model", "{}", "--against", "x:1"], "expected --model FILE or", id="both"),
    ],
)
def test_a_command_that_asks_for_nothing_or_two_things(log, books, arguments, words):
    code, output = run("replay", log, *(each.format(books.old) for each in arguments))
    assert code == 2
    assert words in output


def test_no_log_ends_with_2(tmp_path, books):
    for arguments in (["replay", tmp_path, "--model", books.old], ["log", "show", tmp_path]):
        code, output = run(*arguments)
        assert code == 2
        assert "no complete file of a ranking log is in it" in output


def test_a_log_without_lists_ends_with_2(tmp_path, books):
    empty = tmp_path / "empty.tfrecord"
    empty.touch()
    for how in (["--model", books.old], ["--against", "localhost:1"]):
        code, output = run("replay", empty, *how)
        assert (code, "empty.tfrecord: no list is in it" in output) == (2, True)


def test_a_reader_who_has_enough_sees_no_error(log):
    command = [sys.executable, "-m", "ranker", "log", "show", log]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert ended.stderr == b""


def test_lists_are_shown_and_converted(log, tmp_path):
    code, output = run("log", "show", log, "--limit", 2)
    first, second = map(json.loads, output.splitlines())
    assert code == 0
    assert (first["request_id"], second["request_id"]) == ("r0", "r1")
    assert len(first["indices"]) == first["candidates"] == 12
    code, output = run("log", "convert", log, tmp_path / "out.parquet")
    assert code == 0
    assert "out.parquet: 60 candidates" in output


def test_another_model_is_evaluated_on_a_log_with_outcomes(log, books, tmp_path):
    clicks, document = tmp_path / "clicks.csv", tmp_path / "found.json"
    clicks.write_text("request_id,candidate_id,label\nr0,b3,1\nr1,b4,1\nelse,b1,1\n")
    how = ("--outcomes", clicks, "--baseline", books.old, "--slice", "version")
    code, output = run("evaluate", books.new, log, *how, "--json", document)
    assert code == 0, output
    assert (
        f"{log}: 2 of 5 lists have outcomes; 1 of the 3 outcomes are of no candidate that was shown"
    ) in output
    assert "books 2: missing for every candidate: popularity" in output
    assert any(line.startswith("version  1 ") for line in output.splitlines())
    assert json.loads(document.read_text())["data"]["queries"] == 2


def test_a_log_without_outcomes_can_not_be_evaluated(log, books):
    for place in (log, next(log.iterdir()), "gs://bucket/log"):
        code, output = run("evaluate", books.new, place)
        assert code == 2
        assert f"{place} is a ranking log: expected --outcomes, too" in output
