"""The page is checked as XML: what is drawn is what was measured."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests import chart
from loadtests.chart import Line, axis, svg
from loadtests.measurement import Measurement
from loadtests.report import page
from loadtests.scrape import ServerShare
from loadtests.search import Result, Step

SVG = "{http://www.w3.org/2000/svg}"


def step(rate: float, p99: float, missed: bool = False, server: bool = True) -> Step:
    found = Measurement(rate, seconds=1.0, sent=round(rate))
    for _ in range(10):
        found.latency.record(p99)
    share = ServerShare(round(rate), 0, rate / 1000, rate / 900, 3 * rate, 2.0)
    return Step(found, share if server else None, ["p99: too much"] if missed else [])


def parse(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html.removeprefix("<!DOCTYPE html>\n"))


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = line.get("points", "").split()
    return [tuple(map(float, pair.split(","))) for pair in pairs]


STEPS = [step(50, 0.001), step(100, 0.002), step(200, 0.05, missed=True), step(200, 0.04, True)]


def test_charts_have_a_point_per_rate_and_the_table_a_row_per_step():
    html = parse(page(Result(STEPS, 100.0, ""), "p99=10ms", {"Model": "books <1>"}))
    charts = html.findall(f".//{SVG}svg")
    assert len(charts) == 3
    for each in charts:
        for line in each.findall(f"{SVG}polyline"):
            assert len(points(line)) == 3
    rows = html.findall(".//tbody/tr")
    assert [row[0].text for row in rows] == ["50", "100", "200", "200"]
    assert [row.get("class") for row in rows] == [None, None, "missed", "missed"]
    text = "".join(html.itertext())
    assert "100 requests per second" in text
    assert "books <1>" in text


def test_the_page_needs_nothing_from_elsewhere():
    text = page(Result(STEPS, 100.0, ""), "p99=10ms", {})
    assert not re.search(r"""(?:src|href)=|url\(|@import|<script""", text)


def test_a_server_without_metrics_leaves_its_charts_empty():
    html = parse(page(Result([step(50, 0.001, server=False)], 0.0, "a reason"), "p99=10ms", {}))
    assert "not the server's limit: a reason" in "".join(html.itertext())
    counts = [len(points(line)) for line in html.iter(f"{SVG}polyline")]
    assert counts == [1, 1, 0, 0, 1, 0, 0]  # latencies, and the generator's own work


def test_points_lie_where_their_values_are():
    across, up = chart.Axis("x", 0, 10), chart.Axis("y", 1, 100, logarithmic=True)
    drawn = ElementTree.fromstring(
        svg("title", across, up, [Line("a", "red", [(0, 1), (5, 10), (10, 100), (7, math.nan)])])
    )
    (line,) = drawn.findall(f"{SVG}polyline")
    left, right = chart.LEFT, chart.WIDTH - chart.RIGHT
    top, bottom = chart.TOP, chart.HEIGHT - chart.BOTTOM
    middle = ((left + right) / 2, (top + bottom) / 2)
    assert points(line) == [(left, bottom), middle, (right, top)]


@pytest.mark.parametrize("logarithmic", [False, True], ids=["linear", "logarithmic"])
@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_an_axis_has_room_for_its_values_and_some_ticks(logarithmic, values):
    made = axis("", values, logarithmic=logarithmic)
    assert all(0 <= made.place(value) <= 1 for value in values)
    assert 1 <= len(made.ticks()) <= 50


@pytest.mark.parametrize("logarithmic", [False, True], ids=["linear", "logarithmic"])
def test_an_axis_of_nothing(logarithmic):
    assert axis("", [math.nan], logarithmic=logarithmic).ticks()
