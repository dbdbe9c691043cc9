"""What is said to no effect is told, and what may be so is not."""

from __future__ import annotations

import pytest

from ranker.repository.config import parse_config
from ranker.repository.config_doubts import doubts

LABELS = "labels: {stable: 7, canary: 8}"
NOTHING_TO_WATCH = "a: guard: there is no `traffic`, so that it has no version to watch"
NOTHING_TO_COMPARE = (
    "a: shadow: version {} itself ranks all requests that name no version, so that it is compared "
    "with none of them"
)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(f"{LABELS}, guard: {{errors: 1%}}", NOTHING_TO_WATCH, id="no-traffic"),
        pytest.param(
            f"{LABELS}, traffic: {{stable: 0, canary: 100}}, shadow: {{version: 8}}",
            NOTHING_TO_COMPARE.format(8),
            id="shadow-with-all-traffic",
        ),
        pytest.param(
            f"{LABELS}, shadow: {{version: 7}}", NOTHING_TO_COMPARE.format(7), id="stable-shadow"
        ),
        pytest.param(
            "versions: [9, 8], shadow: {version: 9}",
            NOTHING_TO_COMPARE.format(9),
            id="first-version",
        ),
    ],
)
def test_what_has_no_effect(model, expected):
    assert list(doubts(parse_config(f"models: {{a: {{source: x, {model}}}}}", ""))) == [expected]


def listed(count: int) -> str:
    return ", ".join(map(str, range(1, count + 1)))


@pytest.mark.parametrize(
    ("models", "count"),
    [
        pytest.param(f"a: {{source: x, versions: [{listed(17)}]}}", 17, id="one-model"),
        pytest.param(
            f"a: {{source: x, versions: [{listed(9)}]}}, b: {{source: y, versions: [{listed(8)}]}}",
            17,
            id="two-models",
        ),
        pytest.param(
            f"a: {{source: x, versions: [{listed(15)}], labels: {{s: 2, t: 16}}, "
            "shadow: {version: 17}}",
            17,
            id="labels-and-a-shadow",
        ),
        pytest.param(
            "a: {source: x, versions: {latest: 16}}, b: {source: y}", 17, id="the-source-decides"
        ),
    ],
)
def test_so_many_versions_that_not_all_can_change_at_a_time(models, count):
    [doubt] = doubts(parse_config(f"models: {{{models}}}", ""))
    assert doubt.startswith(f"{count} versions are wanted: a server has room for 32, and needs it ")
    assert doubt.endswith(f"so that {32 - count} can change at a time")


def test_more_versions_than_there_is_room_for():
    [doubt] = doubts(parse_config(f"models: {{a: {{source: x, versions: [{listed(33)}]}}}}", ""))
    assert doubt == "33 versions are wanted: a server has room for 32"


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(f"versions: [{listed(16)}]", id="half-of-the-room"),
        pytest.param("versions: {latest: 16}, labels: {stable: 16}", id="may-be-half-of-the-room"),
        pytest.param("versions: {latest: 2}, shadow: {version: 9}", id="the-source-decides"),
        pytest.param(f"{LABELS}, shadow: {{version: 8}}", id="shadow-of-stable"),
        pytest.param(
            f"{LABELS}, traffic: {{stable: 95, canary: 5}}, shadow: {{version: 7}}", id="split"
        ),
        pytest.param(
            f"{LABELS}, traffic: {{stable: 100, canary: 0}}, guard: {{p99: 20ms}}",
            id="guard-after-a-promotion",
        ),
    ],
)
def test_what_has_one(model):
    assert list(doubts(parse_config(f"models: {{a: {{source: x, {model}}}}}", ""))) == []
