"""The pages of docs/reference/ say what the code says."""

from __future__ import annotations

import json
from contextlib import nullcontext

import jsonschema
import pytest
from click.testing import CliRunner

from docs.reference import generate
from ranker import errors
from ranker.cli.main import cli
from ranker.errors import ConfigError
from ranker.repository.config import parse_config


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_page_is_the_codes(name):
    assert (generate.FOLDER / name).read_text() == generate.PAGES[name](), "run: make docs"


def test_every_page_is_made():
    made = {path.name for kind in ("*.md", "*.json") for path in generate.FOLDER.glob(kind)}
    assert made == set(generate.PAGES)


SOURCE = {"source": "books"}


@pytest.mark.parametrize(
    ("models", "valid"),
    [
        pytest.param({"a": SOURCE}, True, id="least"),
        pytest.param(
            {"a": {**SOURCE, "labels": {"stable": 7, "canary": "8b"}, "versions": {"latest": 2}}},
            True,
            id="labels",
        ),
        pytest.param({"a": {**SOURCE, "versions": [7, "8"]}}, True, id="versions"),
        pytest.param({}, False, id="no-models"),
        pytest.param({"a b": SOURCE}, False, id="name"),
        pytest.param({"a": {"sorce": "books"}}, False, id="field"),
        pytest.param({"a": {**SOURCE, "versions": {"latest": 0}}}, False, id="range"),
        pytest.param({"a": {**SOURCE, "labels": {"stable": "a b"}}}, False, id="version"),
    ],
)
def test_the_schema_takes_what_the_server_takes(models, valid):
    document = {"models": models}
    schema = jsonschema.Draft202012Validator(json.loads(generate.config_schema()))
    assert schema.is_valid(document) == valid
    with nullcontext() if valid else pytest.raises(ConfigError):
        parse_config(json.dumps(document), "ranker.yaml")


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
