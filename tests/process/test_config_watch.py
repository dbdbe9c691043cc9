"""What is wanted is found out again and again, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ranker.callers import CallerPolicy
from ranker.errors import ConfigError, SourceError
from ranker.process import config_watch
from ranker.process.config_watch import ConfigWatch
from ranker.repository.config import Config
from ranker.repository.resolver import Resolver
from ranker.repository.wanted import Wanted
from tests.waiting import wait_until

CONFIG = "models: {books: {source: books}}\npoll_seconds: 1\n"
WANTED = Wanted((), {})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(config_watch, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(config_watch, "LOOK_SECONDS", 0.01)


@contextmanager
def watched(
    folder: Path,
    monkeypatch,
    resolve: Callable[[], Wanted],
    text: str = CONFIG,
    let_in: Callable[[CallerPolicy], None] = lambda _: None,
) -> Iterator[tuple[list[Wanted], list[str]]]:
    """What a watch says is wanted, and why it can't say, while the sources answer so."""
    file = folder / "ranker.yaml"
    file.write_text(text)

    def resolved(_self: Resolver, _config: Config) -> Wanted:
        return resolve()

    monkeypatch.setattr(Resolver, "resolve", resolved)
    wanted, failures = list[Wanted](), list[str]()
    watch = ConfigWatch(str(file), "", let_in, wanted.append, failures.append)
    watch.start()
    try:
        yield wanted, failures
    finally:
        watch.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(SourceError("books", "", "away"), "books: away", id="expected"),
        pytest.param(KeyError("a bug"), "KeyError: 'a bug'", id="a-bug"),
        pytest.param(FileNotFoundError("gone"), "FileNotFoundError: gone", id="a-file-that-goes"),
    ],
)
def test_it_goes_on_after_any_error(tmp_path, monkeypatch, caplog, error, said):
    """Each attempt is told of, and the log says it once."""
    answers = iter([error, error, WANTED])

    def resolve() -> Wanted:
        answer = next(answers, WANTED)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with watched(tmp_path, monkeypatch, resolve) as (wanted, failures):
        wait_until(lambda: wanted)
        assert failures == [said, said]
    assert [record.getMessage() for record in caplog.records] == [
        f"what is served stays as it is: {said}"
    ]


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        pytest.param(WANTED, "wanted", id="sources-that-answer"),
        pytest.param(SourceError("books", "", "away"), "failed", id="a-source-that-fails"),
    ],
)
def test_callers_are_let_in_before_sources_are_asked(tmp_path, monkeypatch, answer, then):
    said = list[str]()

    def resolve() -> Wanted:
        said.append("asked")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def let_in(policy: CallerPolicy) -> None:
        said.extend(policy.names)

    text = f"{CONFIG}callers: {{dns:a: {{}}}}\n"
    with watched(tmp_path, monkeypatch, resolve, text, let_in) as (wanted, failures):
        wait_until(lambda: wanted or failures)
    assert said[:2] == ["dns:a", "asked"]
    assert bool(wanted) is (then == "wanted")


def test_what_can_not_be_had_of_it_is_said_once_and_looked_for_again(tmp_path, monkeypatch, caplog):
    partly = Wanted((), {}, "films: away")
    answers = iter([partly, partly, WANTED])
    with watched(tmp_path, monkeypatch, lambda: next(answers, WANTED)) as (wanted, failures):
        wait_until(lambda: len(wanted) > 2)
    assert [each.failure for each in wanted[:3]] == ["films: away", "films: away", ""]
    assert failures == []
    assert [record.getMessage() for record in caplog.records] == [
        "a part of what is served stays as it is: films: away"
    ]


def test_callers_that_may_not_be_let_in_make_the_configuration_wrong(tmp_path, monkeypatch):
    def let_in(policy: CallerPolicy) -> None:
        raise ConfigError(f"no certificates: {policy.names[0]}")

    text = f"{CONFIG}callers: {{dns:a: {{}}}}\n"
    with watched(tmp_path, monkeypatch, lambda: WANTED, text, let_in) as (wanted, failures):
        wait_until(lambda: failures)
    assert failures[0] == "no certificates: dns:a"
    assert wanted == []


def test_what_has_no_effect_is_said_once(tmp_path, monkeypatch, caplog):
    text = CONFIG.replace(
        "source: books", "source: books, labels: {a: 1, b: 2}, shadow: {version: 1}"
    )
    with watched(tmp_path, monkeypatch, lambda: WANTED, text) as (wanted, failures):
        wait_until(lambda: len(wanted) > 1)
    assert failures == []
    [record] = caplog.records
    assert "books: shadow: version 1 itself ranks all requests" in record.getMessage()
