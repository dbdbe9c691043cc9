"""YAML as configurations are written in it: numbers remember how they are written."""

from __future__ import annotations

import pytest

from ranker.errors import ConfigError
from ranker.repository.config_yaml import WrittenNumber, load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("007", 7, id="leading-zeros"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("1_000", 1000, id="underscore"),
        pytest.param("-0", 0, id="negative-zero"),
        pytest.param("&a 007", 7, id="anchor"),
    ],
)
def test_a_number_that_is_written_in_another_way_has_its_text(text, value):
    number = load_yaml(f"[{text}]", "it")[0]
    assert (number, type(number), number.text) == (value, WrittenNumber, text.removeprefix("&a "))


@pytest.mark.parametrize(
    "text",
    [pytest.param("7", id="plain"), pytest.param("-7", id="minus"), pytest.param("&a 7", id="a")],
)
def test_a_number_in_plain_digits_is_a_number(text):
    assert type(load_yaml(f"[{text}]", "it")[0]) is int


def test_places_are_kept():
    document = load_yaml("a: 1\nb:\n  c: 007\n", "it")
    assert document["b"].lc.value("c") == (2, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "it:2:1: ", id="not-yaml"),
        pytest.param("a: 2026-13-01", "it:1:4: 2026-13-01 is read as a date: month", id="no-date"),
        pytest.param("9" * 5000, "it: Exceeds the limit", id="digits"),
        pytest.param("[" * 10_000, "it: it is nested too deeply", id="deep"),
    ],
)
def test_errors_tell_where(text, message):
    with pytest.raises(ConfigError) as caught:
        load_yaml(text + "\n", "it")
    assert caught.value.message.startswith(message)
