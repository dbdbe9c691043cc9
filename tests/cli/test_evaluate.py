"""`ranker evaluate`: exit codes, the table, the files; once as a shell sees it, with a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from ranker.cli.main import cli
from tests.quality.conftest import books, parquet

__all__ = ["books", "parquet"]


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, args)], catch_exceptions=False)


def test_a_gate_that_holds(books, parquet, tmp_path):
    report, document = tmp_path / "report.html", tmp_path / "result.json"
    done = run(
        *(books.new, parquet, "--baseline", books.old, "--metric", "ndcg@10", "--metric", "map"),
        *("--gate", "ndcg@10 >= baseline - 0.002", "--slice", "country", "--movers", 2),
        *("--report", report, "--json", document),
    )
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        *("metric", "baseline", "model", "difference", "95", "%", "interval"),
        "better/worse/equal",
    ]
    assert lines[1].startswith("ndcg@10 ")
    assert lines[2].startswith("map ")
    assert any(line.startswith("country  SE ") for line in lines)
    assert lines[-1].startswith("pass  ndcg@10 >= baseline - 0.002  (found 0.")
    assert "200 queries" in done.stderr
    assert json.loads(document.read_text())["passed"] is True
    assert report.read_text().startswith("<!doctype html>")


def test_a_gate_that_fails(books, parquet, tmp_path):
    document = tmp_path / "result.json"
    done = run(
        *(books.old, parquet, "--baseline", books.new, "--gate", "ndcg@10 >= baseline"),
        *("--gate", "ndcg@10 > 0", "--json", document),
    )
    assert done.exit_code == 1
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["FAIL", "pass"]
    assert json.loads(document.read_text())["passed"] is False  # written all the same


def test_a_column_that_stands_twice_can_not_be_used(books, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("qid,label,recency,recency\n1,1,0.5,0.7\n1,0,0.1,0.2\n")
    done = run(books.new, path)
    assert done.exit_code == 2
    assert "test.csv: columns stand twice: recency" in done.stderr


def test_a_model_alone(books, parquet):
    done = run(books.new, parquet, "--metric", "mrr", "--confidence", 0.9)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].split() == ["metric", "value", "90", "%", "interval"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        pytest.param(["--metric", "auc"], "metric: expected one of", id="metric"),
        pytest.param(["--gate", "ndcg@10 = 1"], "gate: expected", id="gate"),
        pytest.param(["--gate", "ndcg@10 > baseline"], "needs a baseline", id="no-baseline"),
        pytest.param(["--group", "session"], "no column 'session'", id="column"),
        pytest.param(["--confidence", "2"], "confidence", id="confidence"),
        pytest.param(["--relevant-from", "nan"], "'nan' is not a number", id="relevant-nan"),
        pytest.param(["--relevant-from", "-1"], "'--relevant-from': -1.0", id="relevant-below-0"),
        pytest.param(["--no-such-option"], "No such option", id="option"),
        pytest.param(["--baseline", __file__], "not an ONNX file", id="model"),
        pytest.param(["--json", "/no/such/folder/x.json"], "No such file", id="folder"),
    ],
)
def test_what_can_not_be_done_has_exit_code_2(books, parquet, options, problem):
    done = run(books.new, parquet, *options)
    assert done.exit_code == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_absent_features_are_named(books, tmp_path):
    (tmp_path / "few.csv").write_text("qid,label,recency\n1,0,5\n1,1,6\n")
    done = run(books.new, tmp_path / "few.csv")
    assert done.exit_code == 0
    assert "books 2: missing for every candidate: completion, popularity" in done.stderr


def test_ties_are_named(books, tmp_path):
    (tmp_path / "same.csv").write_text("qid,label,recency\n1,0,5\n1,1,5\n")
    done = run(books.new, tmp_path / "same.csv")
    assert "100.0% of the candidates have the score of another with another label" in done.stderr


def test_a_terminal_sees_a_bar(books, parquet):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ranker", "evaluate", str(books.new), str(parquet)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = ""
    with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as terminal:
        while piece := terminal.read(1 << 16):  # an error tells that all has been read
            shown += piece.decode()
    assert done.returncode == 0
    assert "evaluating" in shown
    assert "100%" in shown


def test_help_shows_an_example():
    done = run("--help")
    assert "ranker evaluate books-8.onnx test.parquet" in done.stdout
