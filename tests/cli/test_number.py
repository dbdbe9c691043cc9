from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.cli.number import Number


@pytest.mark.parametrize("text", ["0", "0.5", "1"])
def test_numbers_within_bounds_are_read(text):
    assert Number(0, 1).convert(text, None, None) == float(text)


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "-0.1", "1.1", "inf", "many", ""])
def test_all_else_is_refused(text):
    with pytest.raises(click.BadParameter):
        Number(0, 1).convert(text, None, None)


def test_a_server_without_a_number_does_not_start():
    result = CliRunner().invoke(cli, ["serve", "books.onnx", "--log-rate", "nan"])
    assert (result.exit_code, "'nan' is not a number" in result.output) == (2, True)
