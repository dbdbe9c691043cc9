"""When a canary is worse than stable: beyond the limit, beyond stable, and beyond chance."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.repository.rollout_limits import LEAST_REQUESTS, Counts, RolloutLimits, Window, verdict

ERRORS = RolloutLimits(errors=0.01)
SLOW = RolloutLimits(p99=0.02)


def failing(failed: int, requests: int) -> Counts:
    return Counts(requests, failed, requests - failed, 0)


def slow(count: int, answered: int) -> Counts:
    return Counts(answered, 0, answered, count)


@pytest.mark.parametrize(
    ("canary", "stable", "worse"),
    [
        pytest.param((1, 3), (0, 1000), False, id="one-of-three"),
        pytest.param((99, 99), (0, 1000), False, id="too-few"),
        pytest.param((100, 100), (0, 1000), True, id="all"),
        pytest.param((100, 100), (0, 99), False, id="too-few-of-stable"),
        pytest.param((2, 100), (0, 1000), False, id="chance"),
        pytest.param((150, 10_000), (0, 100_000), True, id="beyond-the-limit"),
        pytest.param((90, 10_000), (0, 100_000), False, id="within-the-limit"),
        pytest.param((500, 10_000), (5000, 100_000), False, id="like-stable"),
        pytest.param((700, 10_000), (5000, 100_000), True, id="beyond-stable"),
        pytest.param((0, 10_000), (100_000, 100_000), False, id="stable-fails"),
    ],
)
def test_errors(canary, stable, worse):
    reason = verdict(failing(*canary), failing(*stable), ERRORS)
    assert (reason is not None) == worse
    assert verdict(failing(*canary), failing(*stable), SLOW) is None


@pytest.mark.parametrize(
    ("canary", "stable", "worse"),
    [
        pytest.param((50, 99), (0, 1000), False, id="too-few"),
        pytest.param((20, 100), (0, 1000), True, id="slow"),
        pytest.param((150, 10_000), (50, 100_000), True, id="a-little-slow"),
        pytest.param((900, 1000), (9000, 10_000), False, id="the-machine-is-slow"),
    ],
)
def test_answers_that_take_long(canary, stable, worse):
    assert (verdict(slow(*canary), slow(*stable), SLOW) is not None) == worse
    assert verdict(slow(*canary), slow(*stable), ERRORS) is None


def test_the_reason_has_the_figures():
    assert verdict(failing(30, 200), failing(4, 1000), RolloutLimits(errors=0.005, p99=1.0)) == (
        "30 of 200 requests failed, of stable's 4 of 1000; the limit is 0.5 %"
    )
    assert verdict(slow(30, 200), slow(4, 1000), RolloutLimits(errors=0.5, p99=0.0315)) == (
        "30 of 200 answers took longer than 31.5 ms, of stable's 4 of 1000; the limit is 1 %"
    )


def test_a_canary_that_keeps_the_limit_stays():
    """A day of looks, one a second, at versions that are alike and just at the limit."""
    dice = np.random.default_rng(1)
    seconds, each = 86_400, 4
    canary = np.cumsum(dice.binomial(each, 0.01, seconds))
    stable = np.cumsum(dice.binomial(19 * each, 0.01, seconds))
    tripped = [
        now
        for now in range(300, seconds)
        if verdict(
            failing(int(canary[now] - canary[now - 300]), 300 * each),
            failing(int(stable[now] - stable[now - 300]), 300 * 19 * each),
            ERRORS,
        )
    ]
    assert tripped == []


def test_a_canary_that_fails_twice_as_often_as_it_may_goes():
    dice = np.random.default_rng(2)
    failed = int(dice.binomial(3000, 0.025))
    assert verdict(failing(failed, 3000), failing(30, 60_000), ERRORS)


def test_a_window_forgets_what_is_old():
    window = Window(seconds=300, step=10)
    for now in range(1000):
        [found] = window.add(float(now), [failing(0, now)])
        assert min(now, 300) <= found.requests <= 310


def test_a_window_counts_from_its_begin():
    """What was counted before somebody looked is not held against anybody."""
    window = Window(300, 10)
    assert window.add(0.0, [failing(500, 1000)]) == [failing(0, 0)]
    assert window.add(1.0, [failing(501, 1100)]) == [failing(1, 100)]
    assert LEAST_REQUESTS == 100
