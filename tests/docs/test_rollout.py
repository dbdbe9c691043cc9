"""docs/rollout.md: its ways to compute a split are the server's, its configuration is one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from ranker.repository.config import ShadowConfig, parse_config
from ranker.repository.traffic import Sample, Split, place
from tests.repository.test_traffic import VECTORS

PAGE = (Path(__file__).resolve().parents[2] / "docs/rollout.md").read_text()
UNITS = [f"reader-{i}" for i in range(2000)]
SHARES = {"stable": 95, "canary": 5}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_is_the_servers_split():
    (code,) = [block for block in blocks("python") if "def place" in block]
    names: dict = {}
    exec(code, names)
    split = Split(SHARES, "books-2026-11")
    assert {names["arm"]("books-2026-11", unit) for unit in UNITS} == set(SHARES)
    for unit in UNITS:
        assert names["place"]("books-2026-11", unit) == place("books-2026-11", unit)
        assert names["arm"]("books-2026-11", unit) == split.arm(unit)


def test_the_60_bits_of_the_sql_are_enough():
    (code,) = blocks("sql")
    assert "1, 15)) AS INT64) / POW(2, 60)" in code
    for unit in UNITS:
        digits = hashlib.sha256(f"salt:{unit}".encode()).hexdigest()[:15]
        assert int(digits, 16) / 2**60 == pytest.approx(place("salt", unit), abs=1e-15)


def test_the_vectors_are_those_that_the_split_is_tested_with():
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (0\.\d+) \| `(\w+)` \|$", PAGE, re.MULTILINE)
    assert {(salt, unit): float(found) for salt, unit, found, _ in rows} == VECTORS
    for salt, unit, _, arm in rows:
        assert Split(SHARES, salt).arm(unit) == arm


def test_the_configuration_is_one():
    first, *others = [parse_config(text, "ranker.yaml").models["books"] for text in blocks("yaml")]
    assert first.traffic == SHARES
    assert [model.shadow for model in others] == [ShadowConfig(version="9", share=0.1)]


def test_the_documented_place_of_a_sample_is_the_servers():
    assert '`place("SALT:shadow", unit)` is below the share' in PAGE
    sample = Sample.of_shadow(0.1, "books-2026-11")
    for unit in UNITS:
        assert sample.has(unit) == (place("books-2026-11:shadow", unit) < 0.1)
