"""What the guard holds back, and until when."""

from __future__ import annotations

import pytest

from ranker.repository.holds import Holds
from ranker.repository.wanted import WantedRoute

LABELS = {"stable": "7", "canary": "8", "third": "9"}
TRAFFIC = {"stable": 80.0, "canary": 15.0, "third": 5.0}
BOOKS = WantedRoute("7", LABELS, TRAFFIC, "s", entry="as it is")
FILMS = WantedRoute("1", entry="films")
ROUTES = {"books": BOOKS, "films": FILMS}


@pytest.fixture
def holds() -> Holds:
    holds = Holds()
    holds.add("books", BOOKS.entry, ["canary"], "why")
    return holds


def test_the_share_goes_to_stable(holds):
    applied = holds.apply(ROUTES)
    assert applied["films"] is FILMS
    assert applied["books"].traffic == {"stable": 95.0, "canary": 0.0, "third": 5.0}
    assert applied["books"].held == {"canary": "why"}
    assert BOOKS.traffic == TRAFFIC


def test_a_second_one_adds_to_the_first(holds):
    assert holds.add("books", BOOKS.entry, ["third"], "it as well")
    applied = holds.apply(ROUTES)["books"]
    assert applied.traffic == {"stable": 100.0, "canary": 0.0, "third": 0.0}
    assert list(applied.held) == ["canary", "third"]


def test_what_is_held_already_is_nothing_new(holds):
    assert not holds.add("books", BOOKS.entry, ["canary"], "why")
    assert holds.add("books", BOOKS.entry, ["canary", "third"], "why")
    assert holds.add("books", "other", ["canary"], "why")


def test_what_is_applied_can_be_applied_again(holds):
    once = holds.apply(ROUTES)
    assert holds.apply(once) == once


def test_it_stays_while_the_entry_does(holds):
    assert holds.keep({"books": BOOKS}) == []  # films has gone
    assert holds.apply(ROUTES)["books"].held


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param({"books": WantedRoute("7", LABELS, TRAFFIC, entry="other")}, id="edited"),
        pytest.param({"films": FILMS}, id="gone"),
    ],
)
def test_it_ends_when_the_entry_changes(holds, routes):
    assert holds.keep(routes) == ["books"]
    assert holds.apply(ROUTES) == ROUTES


def test_another_entry_is_not_held(holds):
    other = WantedRoute("7", LABELS, TRAFFIC, entry="other")
    assert holds.apply({"books": other})["books"] is other
    holds.add("books", "other", ["third"], "why")
    assert list(holds.apply({"books": other})["books"].held) == ["third"]
