"""What a turn is predicted to take."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from ranker.serving.turn_costs import TurnCosts

OUTLIER = 3.0


def seconds(lists: float) -> float:
    """Each list of a small turn takes more than one of a large turn."""
    return 100e-6 + 200e-6 * min(lists, 4) + 50e-6 * max(0.0, lists - 4)


def observe(costs: TurnCosts, lists: int, took: float) -> None:
    costs.observe(lists, took, costs.predict(lists))


def learnt(sizes: Iterable[int], turns: int = 100) -> TurnCosts:
    costs = TurnCosts(OUTLIER)
    for _ in range(turns):
        for lists in sizes:
            observe(costs, lists, seconds(lists))
    return costs


def test_nothing_is_known_before_there_were_some_turns():
    costs = learnt((4,), turns=3)
    assert costs.predict(4) == 0.0
    assert costs.full(32) == 32
    assert not costs.known
    assert learnt((4,)).known


@pytest.mark.parametrize("lists", [1, 2, 4, 8, 32])
def test_sizes_that_there_were_are_known(lists):
    assert learnt((1, 2, 4, 8, 32)).predict(lists) == pytest.approx(seconds(lists))


def test_between_two_sizes_it_is_between_their_seconds():
    costs = learnt((4, 32))
    assert costs.predict(18) == pytest.approx(seconds(18))


def test_beyond_the_largest_each_list_adds_as_much_as_among_the_latest_turns():
    costs = learnt((1, 2, 3, 4))
    assert costs.predict(10) == pytest.approx(100e-6 + 200e-6 * 10, rel=0.01)


def test_large_turns_are_remembered_while_there_are_small_ones():
    costs = learnt((32,), turns=30)
    for turn in range(50_000):
        lists = 1 + turn % 3
        observe(costs, lists, seconds(lists))
    assert costs.predict(32) == pytest.approx(seconds(32))
    assert costs.predict(2) == pytest.approx(seconds(2), rel=0.01)


def test_turns_that_were_held_up_say_nothing():
    costs, chance = learnt((1, 2, 4)), random.Random(1)
    for _ in range(5000):
        lists = chance.choice((1, 2, 4))
        held_up = chance.random() < 0.05
        observe(costs, lists, seconds(lists) * (20.0 if held_up else 1.0))
    assert [costs.predict(n) for n in (1, 2, 4)] == pytest.approx([seconds(n) for n in (1, 2, 4)])


def test_a_turn_is_full_that_has_as_many_lists_as_the_largest_known():
    assert learnt((1, 2, 60)).full(64) == pytest.approx(60)
    assert learnt((1, 2, 60)).full(16) == 16


def test_a_turn_is_full_whose_lists_take_eight_times_what_it_takes_without_any():
    assert learnt((1, 2, 3)).full(64) == pytest.approx(4, abs=0.1)  # 8 * 100 / 200


def test_what_large_turns_took_is_forgotten_if_small_ones_take_less_for_a_list():
    costs = learnt((32,))
    for _ in range(100):
        observe(costs, 8, 8 / 32 * 0.5 * seconds(32))
    assert costs.predict(32) == pytest.approx(0.5 * seconds(32))
