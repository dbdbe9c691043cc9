"""Promotion and rollback: which labels move, who gets the traffic, and that twice is once."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ranker.errors import ConfigError
from ranker.repository.config import ModelConfig
from ranker.repository.promotion import promote, roll_back


def model(labels, traffic=None):
    return ModelConfig(source="books", labels=labels, traffic=traffic or {})


CANARY = model({"stable": "7", "canary": "8"}, {"stable": 95, "canary": 5})


def test_a_promotion_and_the_way_back():
    promoted = promote("books", CANARY, "canary")
    assert promoted.labels == {"stable": "8", "canary": "8", "previous": "7"}
    assert promoted.traffic == {"stable": 100, "canary": 0}
    back = roll_back("books", promoted)
    assert back.labels == {"stable": "7", "canary": "8", "previous": "7"}
    assert back.traffic == {"stable": 100, "canary": 0}


@pytest.mark.parametrize(
    ("before", "step"),
    [
        pytest.param(CANARY, lambda each: promote("books", each, "canary"), id="promote"),
        pytest.param(CANARY, lambda each: roll_back("books", each, "canary"), id="canary"),
        pytest.param(
            promote("books", CANARY, "canary"), lambda each: roll_back("books", each), id="rollback"
        ),
    ],
)
def test_done_twice_it_changes_nothing(before, step):
    once = step(before)
    assert once != before
    assert step(once) == once


def test_a_canary_that_is_rolled_back_gives_its_share_to_stable():
    three = model(
        {"stable": "7", "canary": "8", "other": "9"}, {"stable": 90, "canary": 6, "other": 4}
    )
    back = roll_back("books", three, "canary")
    assert back.labels == three.labels
    assert back.traffic == {"stable": 96, "canary": 0, "other": 4}


def test_a_label_that_is_rolled_back_leaves_the_units_of_others_where_they_are():
    """On the line `stable` gets the label's place, if it had none."""
    labels = {"stable": "7", "canary": "8", "other": "9"}
    back = roll_back("books", model(labels, {"canary": 50, "other": 50}), "canary")
    assert list(back.traffic.items()) == [("canary", 0), ("stable", 50), ("other", 50)]


@pytest.mark.parametrize("canary", [0.1, 2.2, 5.7, 18.3])
@pytest.mark.parametrize("stable", [12.7, 33.3333334, 81.6])
def test_a_share_is_given_away_as_a_person_adds_up(stable, canary):
    traffic = {"stable": stable, "canary": canary, "other": 100 - stable - canary}
    labels = {"stable": "7", "canary": "8", "other": "9"}
    back = roll_back("books", model(labels, traffic), "canary")
    assert Decimal(repr(back.traffic["stable"])) == Decimal(str(stable)) + Decimal(str(canary))


def test_a_split_asks_which_rollback_is_meant():
    with pytest.raises(ConfigError, match="`ranker rollback books canary` gives its share"):
        roll_back("books", CANARY)


def test_without_a_split_there_is_none_afterwards():
    promoted = promote("books", model({"stable": "7", "canary": "8"}), "canary")
    assert promoted.labels == {"stable": "8", "canary": "8", "previous": "7"}
    assert promoted.traffic == {}


def test_the_first_stable_version_has_no_previous_one():
    promoted = promote("books", model({"a": "7", "b": "8"}, {"a": 50, "b": 50}), "b")
    assert promoted.labels == {"a": "7", "b": "8", "stable": "8"}
    assert promoted.traffic == {"a": 0, "b": 0, "stable": 100}
    with pytest.raises(ConfigError, match="books: there is no label previous; there are: a, b, st"):
        roll_back("books", promoted)


def test_another_label_moves_alone():
    promoted = promote("books", CANARY, "stable", to="canary")
    assert promoted.labels == {"stable": "7", "canary": "7"}
    assert promoted.traffic == CANARY.traffic


def test_no_such_label():
    with pytest.raises(ConfigError, match="no label beta; there are: stable, canary"):
        promote("books", CANARY, "beta")
