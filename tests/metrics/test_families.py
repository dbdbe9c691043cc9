"""Histograms as they are read."""

from __future__ import annotations

import bisect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.metrics.families import Distribution, merged

BOUNDS = (1.0, 2.0, 4.0, 8.0)


def observed(*values: float) -> Distribution:
    counts = [0] * (len(BOUNDS) + 1)
    for value in values:
        counts[bisect.bisect_left(BOUNDS, value)] += 1
    return Distribution(tuple(counts), sum(values))


@given(
    st.lists(st.floats(0.01, 8.0), min_size=1, max_size=50), st.sampled_from([0.1, 0.5, 0.9, 0.99])
)
def test_a_quantile_is_in_its_bucket(values, share):
    exact = np.quantile(values, share, method="inverted_cdf")
    bucket = bisect.bisect_left(BOUNDS, exact)
    found = observed(*values).quantile(BOUNDS, share)
    assert found is not None
    assert (0.0, *BOUNDS)[bucket] <= found <= BOUNDS[bucket]


def test_quantiles_within_a_bucket_count_as_evenly_spread():
    assert observed(3, 3, 3, 3).quantile(BOUNDS, 0.5) == 3.0
    assert observed(0.5, 3, 3, 3).quantile(BOUNDS, 0.75) == pytest.approx(2 + 2 * 2 / 3)


def test_beyond_the_last_bound_it_is_that_bound():
    assert observed(100).quantile(BOUNDS, 0.5) == 8.0


def test_of_nothing_there_is_none():
    assert observed().quantile(BOUNDS, 0.5) is None
    assert merged([]) is None


def test_since_and_merged():
    early, late = observed(1, 3), observed(1, 3, 7, 100)
    assert late.since(early) == observed(7, 100)
    assert merged([late.since(early), early]) == late
