"""The pages of docs/reference/ say what the code says."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from docs.reference import generate
from ranker import errors
from ranker.cli.main import cli


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_page_is_the_codes(name):
    assert (generate.FOLDER / name).read_text() == generate.PAGES[name](), "run: make docs"


def test_every_page_is_made():
    assert {path.name for path in generate.FOLDER.glob("*.md")} == set(generate.PAGES)


def test_every_error_of_the_wire_is_listed():
    listed = {error.__name__ for error in generate.error_classes()}
    assert {"InvalidRequestError", "OverloadedError", "UnavailableError"} <= listed
    family = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    codes = {kind.code for kind in family if issubclass(kind, errors.RankerError)}
    assert codes - {kind.code for kind in generate.error_classes()} == {errors.RankerError.code}


@pytest.mark.parametrize(
    ("arguments", "variable", "value", "flag"),
    [
        pytest.param(["serve", __file__], "RANKER_THREADS", "0", "--threads", id="serve"),
        pytest.param(["rank", __file__], "RANKER_RANK_TOP_K", "-1", "--top-k", id="rank"),
        pytest.param(
            ["export", __file__, "-o", "x"], "RANKER_EXPORT_OUTPUT", "no", "--output", id="export"
        ),
    ],
)
def test_the_listed_environment_variables_are_read(arguments, variable, value, flag):
    assert f"| `{flag}` | `{variable}` |" in generate.flags()
    result = CliRunner().invoke(
        cli, arguments, env={variable: value}, auto_envvar_prefix="RANKER", catch_exceptions=False
    )
    assert result.exit_code == 2
    assert f"Error: Invalid value for '{flag}'" in result.output


def test_a_cell_can_hold_what_separates_cells():
    assert "a&#124;b" in generate.table(["x"], [["a|b"]])
