"""Broken features are named in the log: once, in one line, until they are sound again."""

from __future__ import annotations

import logging

import pytest

from ranker.metrics.drift import FeatureDrift, ModelDrift
from ranker.process.drift_watch import DriftWatch


def model(reference: bool = True, **findings: str) -> ModelDrift:
    features = [FeatureDrift(name, 0.1, 0.2, 0.1, found) for name, found in findings.items()]
    return ModelDrift("books", "8", reference, 5000.0, True, 0.1, tuple(features))


@pytest.fixture
def log(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_they_are_named_once_and_again_after_they_were_sound(log):
    watch = DriftWatch()
    broken = model(price="missing everywhere", age="constant", genre="")
    for _ in range(3):
        watch.look([broken])
    watch.look([model(price="missing everywhere", age="", genre="")])
    watch.look([broken])
    line = "books@8, features, unlike in the training data: "
    assert log.messages == [
        f"{line}'price' is missing everywhere, 'age' is constant",
        "books@8: no longer so: 'age'",
        f"{line}'age' is constant",
    ]


def test_without_a_reference_nothing_is_compared(log):
    DriftWatch().look([model(reference=False, price="constant")])
    assert log.messages == ["books@8, features, in all lists counted: 'price' is constant"]


def test_a_line_names_twenty_at_most(log):
    DriftWatch().look([model(**{f"f{n}": "constant" for n in range(30)})])
    [line] = log.messages
    assert line.count("is constant") == 20
    assert line.endswith(", and so on: 10 more")


def test_of_a_version_that_is_no_longer_served_nothing_is_said_until_it_returns(log):
    watch = DriftWatch()
    watch.look([model(price="constant")])
    watch.look([])
    assert len(log.messages) == 1
    watch.look([model(price="constant")])
    assert log.messages[1:] == log.messages[:1]
