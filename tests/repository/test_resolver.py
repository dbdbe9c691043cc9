"""From a configuration to files: which versions, in which order, and what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ranker.errors import ConfigError, SourceError
from ranker.model import ModelFile
from ranker.repository.config import parse_config
from ranker.repository.publication import publish
from ranker.repository.resolver import Resolver
from ranker.repository.wanted import Wanted

TREES = Path(__file__).parents[1] / "forest" / "onnx" / "data" / "xgboost_regressor.onnx"


@pytest.fixture
def folder(tmp_path) -> Path:
    for version in ("7", "8", "9", "10"):
        file = ModelFile.read(TREES)
        publish(file, str(tmp_path / "books"), version, progress=lambda text: None)  # noqa: ARG005
    shutil.copy(TREES, tmp_path / "films.onnx")
    return tmp_path


def resolve(folder: Path, books: str) -> Wanted:
    config = parse_config(f"models: {{books: {{source: books{books}}}}}", "ranker.yaml")
    return Resolver(str(folder), None).resolve(config)


@pytest.mark.parametrize(
    ("books", "versions", "default"),
    [
        pytest.param("", ["10"], "10", id="the-newest"),
        pytest.param(", versions: {latest: 2}", ["10", "9"], "10", id="two-newest"),
        pytest.param(", versions: [8, 7]", ["8", "7"], "8", id="listed"),
        pytest.param(", labels: {canary: 8, stable: 7}", ["7", "8"], "7", id="labelled"),
        pytest.param(
            ", versions: {latest: 1}, labels: {stable: 7}", ["7", "10"], "7", id="stable-first"
        ),
        pytest.param(", labels: {a: 8, b: 9}", ["8", "9"], "8", id="first-label"),
        pytest.param(
            ", labels: {stable: 7}, shadow: {version: 9}", ["7", "9"], "7", id="shadow-last"
        ),
        pytest.param(", shadow: {version: 9}", ["10", "9"], "10", id="shadow-of-the-newest"),
        pytest.param(
            ", labels: {a: 8, b: 9}, shadow: {version: 9}", ["8", "9"], "8", id="labelled-shadow"
        ),
    ],
)
def test_which_versions_are_served(folder, books, versions, default):
    wanted = resolve(folder, books)
    assert [model.version for model in wanted.models] == versions
    assert wanted.routes["books"].default == default
    assert {model.name for model in wanted.models} == {"books"}


def test_a_file_that_changes_is_wanted_anew(folder):
    config = parse_config("models: {films: {source: films.onnx}}", "ranker.yaml")
    resolver = Resolver(str(folder), None)
    before = resolver.resolve(config)
    assert resolver.resolve(config) == before
    other = folder / "other"
    shutil.copy(TREES, other)
    other.rename(folder / "films.onnx")
    assert resolver.resolve(config) != before


def test_what_passes_between_processes_is_the_same(folder):
    wanted = resolve(folder, ", labels: {stable: 7, canary: 8}, traffic: {stable: 90, canary: 10}")
    assert Wanted.from_facts(wanted.to_facts()) == wanted


def test_the_shadow_and_its_share(folder):
    route = resolve(folder, ", labels: {stable: 7}, shadow: {version: 8, share: 0.5}")
    assert (route.routes["books"].shadow, route.routes["books"].shadow_share) == ("8", 0.5)
    assert Wanted.from_facts(route.to_facts()) == route


def test_a_version_that_is_not_there(folder):
    with pytest.raises(SourceError, match="version 11: there is no such version"):
        resolve(folder, ", labels: {stable: 11}")


def test_a_source_without_versions(folder):
    (folder / "empty").mkdir()
    config = parse_config("models: {books: {source: empty}}", "ranker.yaml")
    with pytest.raises(ConfigError, match="empty has no complete version"):
        Resolver(str(folder), None).resolve(config)
