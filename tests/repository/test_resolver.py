"""From a configuration to files: which versions, in which order, and what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ranker.errors import ConfigError, SourceError
from ranker.model import ModelFile
from ranker.repository.config import Config, parse_config
from ranker.repository.publication import publish
from ranker.repository.resolver import Resolver
from ranker.repository.wanted import Wanted
from tests.repository.conftest import make_model

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
    other = make_model(folder, version="1")
    other.rename(folder / "films.onnx")
    after = resolver.resolve(config)
    assert after != before
    assert after.models[0].sha256 == ModelFile.read(folder / "films.onnx").digest


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


def configured(folder: Path, text: str) -> Config:
    return parse_config(f"models: {{{text}}}", str(folder / "ranker.yaml"))


BOOKS = "books: {source: books, labels: {stable: 8, previous: 7}}"
FILMS = "films: {source: films, versions: {latest: 1}}"


@pytest.fixture
def sources(folder, put) -> Path:
    """`folder`, where films has versions too."""
    put(folder / "films", "1", 0)
    return folder


def test_a_version_that_nobody_wants_changes_nothing(folder):
    config = configured(folder, "books: {source: books, labels: {stable: 9, canary: 10}}")
    resolver = Resolver(str(folder), None)
    before = resolver.resolve(config)
    publish(ModelFile.read(TREES), str(folder / "books"), "11", progress=lambda _: None)
    assert resolver.resolve(config) == before


@pytest.mark.parametrize("version", ["7", "10"], ids=["an-older-one", "the-newest"])
def test_a_version_of_a_folder_that_is_another_model_now_is_wanted_anew(folder, put, version):
    config = configured(folder, "books: {source: books, versions: [7, 10]}")
    resolver = Resolver(str(folder), None)
    before = resolver.resolve(config)
    shutil.rmtree(folder / "books" / version)
    put(folder / "books", version, 1)
    assert resolver.resolve(config) != before


def test_a_model_that_can_not_be_had_does_not_keep_others_from_following(sources):
    resolver = Resolver(str(sources), None)
    before = resolver.resolve(configured(sources, f"{BOOKS}, {FILMS}"))
    shutil.copytree(sources / "films" / "1", sources / "films" / "2")  # its manifest says 1
    back = BOOKS.replace("stable: 8, previous: 7", "stable: 7, previous: 8")
    after = resolver.resolve(configured(sources, f"{back}, {FILMS}"))
    assert after.routes["books"].default == "7"
    assert after.routes["films"] == before.routes["films"]
    assert after.models[-1] == before.models[-1]
    assert "films, version 2: " in after.failure
    shutil.rmtree(sources / "films" / "2")
    assert resolver.resolve(configured(sources, f"{back}, {FILMS}")).failure == ""


@pytest.mark.parametrize("first", [True, False], ids=["the-first", "a-further-one"])
def test_a_new_model_that_can_not_be_had_is_not_served(sources, first):
    resolver = Resolver(str(sources), None)
    before = resolver.resolve(configured(sources, BOOKS))
    texts = ["songs: {source: songs}", BOOKS]
    after = resolver.resolve(configured(sources, ", ".join(texts if first else texts[::-1])))
    assert after == before
    assert after.failure.endswith("songs: there is no such file or folder")


def test_where_none_can_be_had_that_is_said(sources):
    resolver = Resolver(str(sources), None)
    resolver.resolve(configured(sources, BOOKS))
    with pytest.raises(ConfigError, match="songs: there is no such file or folder"):
        resolver.resolve(configured(sources, "songs: {source: songs}"))


def gone(folder: Path) -> None:
    shutil.rmtree(folder / "7")


def refuses(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        pytest.param(gone, "books, version 7: there is no such version", id="the-version-is-gone"),
        pytest.param(refuses, "books: there is no such folder", id="the-source-refuses"),
    ],
)
def test_the_way_back_needs_no_source(folder, happens, reason):
    resolver = Resolver(str(folder), None)
    before = resolver.resolve(configured(folder, BOOKS))
    happens(folder / "books")
    back = BOOKS.replace("stable: 8, previous: 7", "stable: 7, previous: 8")
    after = resolver.resolve(configured(folder, back))
    assert after.routes["books"].default == "7"
    assert set(after.models) == set(before.models)
    assert reason in after.failure


def test_another_source_of_the_same_version_is_another(sources):
    resolver = Resolver(str(sources), None)
    resolver.resolve(configured(sources, BOOKS))
    other = resolver.resolve(configured(sources, "books: {source: films, labels: {stable: 7}}"))
    assert other.routes["books"].default == "8", "it stays as it was: films has no version 7"
    assert "films, version 7: there is no such version" in other.failure


def test_a_file_that_becomes_a_folder_is_followed(folder, put):
    resolver = Resolver(str(folder), None)
    config = configured(folder, "films: {source: films.onnx}")
    resolver.resolve(config)
    (folder / "films.onnx").unlink()
    put(folder / "films.onnx", "3", 1)
    resolver.resolve(config)
    assert [model.version for model in resolver.resolve(config).models] == ["3"]


def test_what_another_source_had_is_not_taken_for_its_own(sources):
    """Also not at the second look, at which nothing has changed."""
    (sources / "other").mkdir()
    shutil.copytree(sources / "books" / "8", sources / "other" / "8")
    resolver = Resolver(str(sources), None)
    before = resolver.resolve(configured(sources, BOOKS))
    other = configured(sources, BOOKS.replace("source: books", "source: other"))
    for _ in range(3):
        after = resolver.resolve(other)
        assert after == before
        assert "other, version 7: there is no such version" in after.failure


@pytest.mark.parametrize("looks", [1, 3], ids=["at-once", "later"])
@pytest.mark.parametrize("newest", ["", ", versions: {latest: 1}"], ids=["labels", "and-newest"])
def test_the_way_back_needs_no_source_however_long_it_is_gone(folder, looks, newest):
    resolver = Resolver(str(folder), None)
    text = f"books: {{source: books{newest}, labels: {{stable: 8, previous: 7}}}}"
    resolver.resolve(configured(folder, text))
    refuses(folder / "books")
    back = text.replace("stable: 8, previous: 7", "stable: 7, previous: 8")
    for look in range(looks):
        after = resolver.resolve(configured(folder, text if look < looks - 1 else back))
    assert after.routes["books"].default == "7"


def test_a_model_stays_that_one_under_another_name_is_to_replace(sources):
    resolver = Resolver(str(sources), None)
    before = resolver.resolve(configured(sources, f"{BOOKS}, {FILMS}"))
    renamed = BOOKS.replace("books:", "novels:").replace("stable: 8", "stable: 11")
    after = resolver.resolve(configured(sources, f"{renamed}, {FILMS}"))
    assert after == before
    assert "version 11: there is no such version" in after.failure
    renamed = renamed.replace("stable: 11", "stable: 8")
    assert "books" not in resolver.resolve(configured(sources, f"{renamed}, {FILMS}")).routes
