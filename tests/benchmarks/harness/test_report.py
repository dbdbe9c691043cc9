from __future__ import annotations

import json
import math

import click
import pytest
from click.testing import CliRunner

from benchmarks.harness.report import Report, Rounds, command, shown


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        pytest.param(1234.5678, "1,230", id="thousands"),
        pytest.param(12.345, "12.3", id="tens"),
        pytest.param(0.0012345, "0.00123", id="thousandths"),
        pytest.param(-0.5, "-0.500", id="negative"),
        pytest.param(0.0, "0", id="zero"),
        pytest.param(123456, "123,456", id="whole-number"),
        pytest.param(math.nan, "", id="not-measured"),
        pytest.param(None, "", id="nothing"),
        pytest.param("a text", "a text", id="text"),
    ],
)
def test_cells_have_three_digits(cell, text):
    assert shown(cell) == text


def test_a_ratio_is_taken_within_each_round():
    rounds = Rounds()
    for speed in (1.0, 10.0, 100.0):  # of the machine, which changes from round to round
        rounds.note("floor", {"µs": 2 * speed})
        rounds.note("ours", {"µs": 3 * speed})
    assert rounds.ratio("ours", "floor", "µs") == pytest.approx(1.5)
    assert rounds.medians("ours") == {"µs": 30.0}
    assert math.isnan(rounds.ratio("ours", "nobody", "µs"))


@command
@click.option("--rounds", default=2)
def measured(report: Report, rounds: int) -> None:
    """Not what the help says: that is the module's docstring."""
    found = Rounds()
    for number in report.rounds(rounds):
        found.note("a thing", {"µs": 1.25 + number, "not measured": math.nan})
    found.show(report, "what", title="a title")
    report.say("a remark")


def test_a_command_prints_markdown_and_writes_the_same_as_json(tmp_path):
    path = tmp_path / "report.json"
    done = CliRunner().invoke(measured, ["--json", str(path)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "| what | µs | not measured |" in lines
    assert "| a thing | 1.75 |  |" in lines
    report = json.loads(path.read_text())
    assert report["tables"] == [
        {"title": "a title", "rows": [{"what": "a thing", "µs": 1.75, "not measured": None}]}
    ]
    assert report["notes"] == ["a remark"]
    assert report["options"] == {"rounds": "2"}
    assert report["machine"]["processor"]


def test_what_was_found_is_written_though_the_rest_failed(tmp_path):
    @command
    def breaks(report: Report) -> None:
        report.table("a").row(1)
        raise click.ClickException("no more")

    path = tmp_path / "report.json"
    done = CliRunner().invoke(breaks, ["--json", str(path)])
    assert done.exit_code == 1
    assert json.loads(path.read_text())["tables"][0]["rows"] == [{"a": 1}]


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match="shorter"):
        Report("name", {}).table("a", "b").row(1)
