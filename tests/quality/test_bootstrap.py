from __future__ import annotations

import numpy as np
import pytest

from ranker.quality.bootstrap import interval, resampled_means


def test_the_same_seed_gives_the_same_means():
    values = np.random.default_rng(1).random((50, 2))
    weights = np.ones(50)
    first = resampled_means(values, weights, 100, seed=7)
    np.testing.assert_array_equal(first, resampled_means(values, weights, 100, seed=7))
    assert not np.array_equal(first, resampled_means(values, weights, 100, seed=8))


@pytest.mark.parametrize("queries", [40, 3000])
def test_intervals_are_as_wide_as_the_mean_is_unsure(queries):
    values = np.random.default_rng(2).normal(5, 2, (queries, 1))
    means = resampled_means(values, np.ones(queries), 4000, seed=0)
    low, high = interval(means[:, 0], 0.95)
    unsure = values.std() / np.sqrt(queries)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.15 * unsure)
    assert high - low == pytest.approx(2 * 1.96 * unsure, rel=0.08)


def test_columns_are_drawn_together():
    """What two models have in common cancels out."""
    hard = np.random.default_rng(3).normal(0, 10, 200)
    means = resampled_means(np.column_stack([hard + 1, hard]), np.ones(200), 500, seed=0)
    np.testing.assert_allclose(means[:, 0] - means[:, 1], 1, atol=1e-9)


def test_queries_count_by_their_weights():
    values = np.array([[1.0], [3.0]])
    means = resampled_means(values, np.array([1.0, 0.0]), 50, seed=0)[:, 0]
    assert set(means[~np.isnan(means)]) == {1.0}  # NaN: only the query that doesn't count
    assert interval(means, 0.95) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan]), 0.95)).all()


def test_the_draws_are_the_same_however_many_are_held_at_once(monkeypatch):
    values = np.random.default_rng(1).random((50, 1))
    whole = resampled_means(values, np.ones(50), 30, seed=7)
    monkeypatch.setattr("ranker.quality.bootstrap._AT_ONCE", 1)
    told = []
    piecewise = resampled_means(values, np.ones(50), 30, seed=7, progress=told.append)
    np.testing.assert_allclose(piecewise, whole, rtol=1e-12)
    assert told[-1] == 1
    assert told == sorted(told)
