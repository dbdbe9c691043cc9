"""Which model a request gets: by name, version, label, and share of the traffic."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ranker.errors import ModelError, NotFoundError
from ranker.serving.generation import Generation, Route


class Served(SimpleNamespace):
    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


SEVEN, EIGHT, FILMS = (
    Served(name=name, version=version)
    for name, version in (("books", "7"), ("books", "8"), ("films", "1"))
)
LABELS = {"stable": "7", "canary": "8"}
TRAFFIC = {"stable": 75.0, "canary": 25.0}


def half(unit: str) -> str:
    return "canary" if unit == "curious" else "stable"


@pytest.fixture
def generation() -> Generation:
    routes = {"books": Route("7", LABELS, TRAFFIC, half)}
    return Generation([SEVEN, EIGHT, FILMS], 3, routes)


@pytest.mark.parametrize(
    ("name", "version", "unit", "served", "label"),
    [
        pytest.param("books", "8", "", EIGHT, "", id="version"),
        pytest.param("books", "@canary", "", EIGHT, "canary", id="label"),
        pytest.param("", "@canary", "", EIGHT, "canary", id="label-of-the-default"),
        pytest.param("books", "", "curious", EIGHT, "canary", id="arm"),
        pytest.param("", "", "curious", EIGHT, "canary", id="arm-of-the-default"),
        pytest.param("books", "", "calm", SEVEN, "stable", id="other-arm"),
        pytest.param("films", "", "curious", FILMS, "", id="no-split"),
    ],
)
def test_who_ranks(generation, name, version, unit, served, label):
    assert generation.find(name, version, unit) == (served, label)


@pytest.mark.parametrize(
    ("name", "version"), [("cds", ""), ("books", "9"), ("films", "@canary"), ("", "@beta")]
)
def test_what_is_not_there_is_named(generation, name, version):
    with pytest.raises(NotFoundError, match="this server holds books@7, books@8, films@1"):
        generation.find(name, version, "")


def test_shares_and_labels(generation):
    assert [generation.share(served) for served in (SEVEN, EIGHT, FILMS)] == [75.0, 25.0, 100.0]
    assert generation.labels(EIGHT) == ["canary"]


def test_the_shadow_of_all_others_of_its_name():
    routes = {"books": Route("7", shadow="8", shadow_share=0.1)}
    generation = Generation([SEVEN, EIGHT, FILMS], 1, routes)
    assert [generation.shadow(served) for served in (SEVEN, EIGHT, FILMS)] == [EIGHT, None, None]
    assert [generation.shadow_share(served) for served in (SEVEN, EIGHT, FILMS)] == [0, 10, 0]
    assert [generation.share(served) for served in (SEVEN, EIGHT)] == [100, 0]


def test_without_routes_the_first_of_a_name_is_its_default():
    generation = Generation([EIGHT, SEVEN])
    assert generation.find("books", "", "").served is EIGHT


@pytest.mark.parametrize(
    ("models", "routes", "message"),
    [
        pytest.param([], {}, "no model", id="none"),
        pytest.param(
            [SEVEN, SEVEN],
            {},
            "two models are books@7: export one of them with another --name or --version",
            id="twice",
        ),
        pytest.param([SEVEN], {"books": Route("7", {"new": "8"})}, "label 'new'", id="label"),
        pytest.param([SEVEN], {"books": Route("8")}, "the default is version 8", id="default"),
        pytest.param([SEVEN], {"books": Route("7", shadow="8")}, "the shadow is 8", id="shadow"),
    ],
)
def test_what_makes_no_sense_is_refused(models, routes, message):
    with pytest.raises(ModelError, match=message):
        Generation(models, 1, routes)
