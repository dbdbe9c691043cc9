"""The charts need nothing else to be shown, and their names and figures can be read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def chart() -> ModuleType:
    """Imported here: what draws takes long to import, and each of pytest's processes collects."""
    from benchmarks.harness import chart

    return chart


def texts(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def check(svg: str) -> None:
    assert not re.search(r"(?:src|href)=|url\(http|@import|<script", svg)
    assert 'fill="white"' not in svg  # the page's own background shows, light or dark


def test_bars(chart):
    groups = {"short lists": {"ours": 65.2, "theirs & co": 121.4}, "long": {"ours": 1270.0}}
    svg = chart.bars(("the title", "and more"), groups, highlight="ours", unit="µs")
    check(svg)
    shown = texts(svg)
    for text in ("the title", "and more", "short lists", "theirs & co", "65 µs", "1,270 µs"):
        assert text in shown
    assert svg.count(chart.STRONG) == 2


def test_lines(chart):
    series = {"p50": [(50.0, 1.0), (100.0, 2.0)], "p99": [(50.0, 3.0), (100.0, 9.0)]}
    svg = chart.lines("the title", ("requests per second", "milliseconds"), series, 75.0)
    check(svg)
    for text in ("the title", "requests per second", "milliseconds", "p50", "p99"):
        assert text in texts(svg)
    assert "stroke-dasharray" in svg
    assert "stroke-dasharray" not in chart.lines("", ("x", "y"), series, 0.0)
