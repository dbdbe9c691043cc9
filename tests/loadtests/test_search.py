from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.harness.h2load import Call, Calls
from benchmarks.harness.scrape import ServerShare
from loadtests.search import RESOLUTION, Result, Step, search

SHARE = ServerShare(10, 0, 0.1, 0.2, 1.5)


def found(
    meets: Callable[[float, int], bool], limit: float = 1e6, most: float = float("inf")
) -> Result:
    """Searches a made-up server that `meets` the objective at a rate, at its nth try.

    The load sends no more than `most` per second.
    """
    tries: dict[float, int] = {}

    def measure(rate: float) -> Step:
        tries[rate] = tries.get(rate, 0) + 1
        gap = 1 / min(rate, most)
        calls = Calls([Call(0.0, 0.001), Call(2 * gap, 0.001)])  # two in twice the gap
        return Step(rate, calls, SHARE, [] if meets(rate, tries[rate]) else ["p99"])

    return search(measure, 50.0, limit)


@settings(max_examples=40, deadline=None)
@given(capacity=st.floats(50, 5000))
def test_the_rate_that_is_found_is_met_and_a_little_more_is_not(capacity):
    result = found(lambda rate, _: rate <= capacity)
    assert result.rate <= capacity < result.rate * RESOLUTION
    assert not result.limited_by
    assert len(result.steps) < 25


def test_a_step_that_misses_once_is_not_believed():
    assert found(lambda rate, n: rate <= 777 and n > 1).rate > 777 / RESOLUTION


def test_a_step_that_misses_twice_is():
    result = found(lambda rate, _: rate <= 60)
    rates = [step.rate for step in result.steps if step.missed]
    assert all(rates.count(rate) == 2 for rate in rates)


def test_no_rate_will_do():
    assert found(lambda *_: False).rate == 0


def test_the_most_to_try_is_said():
    result = found(lambda *_: True, limit=300)
    assert (result.rate, result.limited_by) == (300, "300/s was the most to try")


def test_a_load_that_can_not_keep_up_is_a_limit_and_is_said():
    result = found(lambda *_: True, most=800)
    assert result.rate <= 1000 < result.rate * RESOLUTION
    assert "only 800/s of 10" in result.limited_by
