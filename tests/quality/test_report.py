from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from ranker.distribution import MissingExtraError
from ranker.quality import Columns, RankingData, evaluate
from ranker.quality.report import render
from tests.quality.conftest import FEATURES, matrix


@pytest.fixture(scope="module")
def found(books, parquet):
    return evaluate(
        books.new,
        parquet,
        baseline=books.old,
        metrics=["ndcg@10", "map"],
        gates=["ndcg@10 > baseline", "map > 2"],
        columns=Columns(slices=("country",)),
    )


@pytest.fixture(scope="module")
def page(found) -> str:
    """The comparison, drawn once."""
    return render(found)


def charts(page: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", page, re.DOTALL)


def test_features_whose_codes_may_mean_something_else_are_named(found, page):
    told = render(replace(found, unverified_codes=("genre", "store")))
    assert 'stand for other categories</td><td colspan="2">genre, store<' in told
    assert "stand for other categories" not in page


def test_a_comparison_has_all_charts(found, page):
    drawn = charts(page)
    assert len(drawn) == 4  # metrics, queries, slices, scores
    for svg in drawn:
        ElementTree.fromstring(re.sub(r"xlink:href", "href", svg))
    assert "books 2 against books 1" in page
    assert found.model.digest in page
    assert f"{found.metrics[1].difference.value:+.4f}" in page
    assert page.count('<p class="gate good">') == page.count('<p class="gate bad">') == 1
    assert found.gained[0].query in page


def test_a_model_alone_has_no_comparison(books, parquet):
    page = render(evaluate(books.new, parquet))
    assert len(charts(page)) == 2
    assert "against" not in page
    assert "movers" not in page


def test_the_page_loads_nothing(page):
    addresses = []

    class Addresses(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag in ("script", "link", "img", "iframe"):
                addresses.append(tag)
            addresses.extend(
                value for name, value in attrs if name.endswith(("href", "src")) and value[0] != "#"
            )

    Addresses().feed(page)
    assert addresses == []
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_charts_take_the_pages_colours(page):
    for svg in charts(page):
        colors = set(re.findall(r"#[0-9a-fA-F]{6}\b", svg))
        assert not colors, "a colour of its own would not follow the reader's light or dark"
    used = set(re.findall(r"var\((--[a-z]+)\)", page))
    for mode in page.split("prefers-color-scheme: dark"):
        assert used <= set(re.findall(r"(--[a-z]+):", mode))


def test_charts_do_not_share_ids(page):
    ids = re.findall(r'<clipPath id="(\w+)"', page)
    assert len(ids) == len(set(ids)) > 0


def test_names_are_text_and_nothing_else(books):
    table = books.table
    evil = '<script>alert("1")</script>" onload="x$_2$'
    data = RankingData.from_arrays(
        matrix(table, FEATURES),
        table["label"],
        [f"{evil}{query}" for query in table["qid"].to_pylist()],
        feature_names=FEATURES,
        slices={evil: np.full(len(table), evil)},
        source=evil,
    )
    found = evaluate(books.new, data, baseline=books.old)
    page = render(replace(found, model=replace(found.model, name=evil)))
    names = []

    class Names(HTMLParser):
        def handle_starttag(self, tag, attrs):
            names.extend([tag, *(name for name, _ in attrs)])

    Names().feed(page)
    assert "svg" in names
    assert not {"script", "onload"} & set(names)
    for svg in charts(page):
        ElementTree.fromstring(svg.replace("xlink:href", "href"))


def test_scores_that_are_all_the_same_can_be_drawn(found):
    same = replace(found.model, scores=np.zeros_like(found.model.scores))
    assert len(charts(render(replace(found, model=same)))) == 4


def test_without_matplotlib_it_is_said_what_to_install(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib: not installed; .*\[quality\]"):
        render(found)
