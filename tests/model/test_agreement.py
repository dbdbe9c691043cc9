"""How far two models agree: tau-b by its definition, the overlap, the shift."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranker.model.agreement import overlap, score_shift, tau_b


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def defined_tau_b(first: np.ndarray, second: np.ndarray) -> float:
    """Pair by pair."""
    surplus = ordered_first = ordered_second = 0
    both = zip(first.tolist(), second.tolist(), strict=True)
    for (a, x), (b, y) in combinations(both, 2):
        one = (a > b) - (a < b)
        other = (x > y) - (x < y)
        surplus += one * other
        ordered_first += one != 0
        ordered_second += other != 0
    if not (ordered_first and ordered_second):
        return math.nan
    return surplus / math.sqrt(ordered_first * ordered_second)


some = arrays(np.float32, st.shared(st.integers(1, 40), key="n"), elements=st.integers(-5, 5))


@given(some, some)
def test_tau_b_is_what_its_definition_says(first, second):
    assert tau_b(first, second) == pytest.approx(defined_tau_b(first, second), nan_ok=True)


@pytest.mark.parametrize("n", [2, 100, 1000, 20_000])
def test_tau_b_is_what_scipy_finds(n):
    stats = pytest.importorskip("scipy.stats")
    dice = np.random.default_rng(n)
    first = dice.normal(size=n).astype(np.float32)
    second = np.round(first + dice.normal(size=n), 1).astype(np.float32)
    assert tau_b(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        pytest.param(scores(1, 2, 3), scores(4, 5, 6), 1, id="same"),
        pytest.param(scores(1, 2, 3), scores(6, 5, 4), -1, id="reverse"),
        pytest.param(scores(1, 1, 2), scores(1, 2, 3), 2 / math.sqrt(6), id="a-tie"),
        pytest.param(scores(1, 1, 1), scores(1, 2, 3), math.nan, id="all-tied"),
        pytest.param(scores(1), scores(2), math.nan, id="one-candidate"),
    ],
)
def test_tau_b_of_known_lists(first, second, tau):
    assert tau_b(first, second) == pytest.approx(tau, nan_ok=True)


@pytest.mark.parametrize(
    ("first", "second", "k", "share"),
    [
        pytest.param(scores(4, 3, 2, 1), scores(3, 4, 1, 2), 2, 1.0, id="same-two"),
        pytest.param(scores(4, 3, 2, 1), scores(4, 1, 2, 3), 2, 0.5, id="one-of-two"),
        pytest.param(scores(2, 1), scores(1, 2), 10, 1.0, id="shorter-than-k"),
        pytest.param(scores(1, 1, 1), scores(1, 1, 2), 2, 0.5, id="ties-in-order-of-the-list"),
    ],
)
def test_overlap(first, second, k, share):
    assert overlap(first, second, k) == share


def test_score_shift_is_in_standard_deviations_of_the_first():
    assert score_shift(scores(0, 4), scores(1, 5)) == 0.5
    assert score_shift(scores(0, 4), scores(1, 3)) == 0.5
    assert math.isnan(score_shift(scores(1, 1), scores(1, 2)))
