"""Histograms of training data: each number is in one bin, that of the definition."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import ModelError
from ranker.model import Model
from ranker.model.histogram import (
    MOST_BINS,
    Bins,
    Histogram,
    Reference,
    decile_cuts,
    frequent_codes,
    spread_cuts,
)
from ranker.model.metadata import PREFIX, ModelMetadata
from tests.fakes import SumEngine

FLOATS = st.floats(width=32)
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45]
BINS = st.one_of(
    st.builds(
        lambda cuts: Bins(cuts=tuple(sorted(cuts))),
        st.sets(
            st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
            max_size=15,
        ),
    ),
    st.builds(
        lambda codes: Bins(codes=tuple(sorted(codes))),
        st.sets(st.integers(0, 40) | st.integers(0, 2**24 - 1), min_size=1, max_size=15),
    ),
)


def numbers_for(bins: Bins) -> list[float]:
    """What is likely to be put wrong: the limits, and the next numbers of 32 bits."""
    ends = np.array([*bins.cuts, *bins.codes, *(code + 1 for code in bins.codes)], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        beside = [np.nextafter(ends, np.float32(to)) for to in (-np.inf, np.inf)]
    return [float(each) for each in np.concatenate([ends, *beside])]


def defined_bin(bins: Bins, value: float) -> int:
    """The bin of one number, as `Bins` says it in words; NaN has none."""
    if math.isnan(value):
        return bins.count
    if not bins.codes:
        return sum(cut <= value for cut in bins.cuts)
    code = math.floor(value) if math.isfinite(value) else -1
    return bins.codes.index(code) if code in bins.codes else len(bins.codes)


@given(BINS, st.lists(FLOATS))
def test_each_number_is_in_the_bin_of_the_definition(bins, some):
    values = [*some, *SPECIAL, *numbers_for(bins)]
    found = bins.find(np.array(values, np.float32))
    assert found.tolist() == [defined_bin(bins, float(np.float32(value))) for value in values]


@given(BINS, st.lists(FLOATS, min_size=1))
def test_a_file_holds_it_all(bins, values):
    histogram = Histogram.of(bins, np.array(values, np.float32))
    assert sum(histogram.counts) + histogram.missing == len(values)
    reference = Reference(len(values), histogram, {3: histogram, 7: histogram})
    metadata = ModelMetadata(reference=reference)
    assert ModelMetadata.from_props(metadata.to_props()).reference == reference


def test_a_model_without_one_has_none():
    assert f"{PREFIX}reference" not in ModelMetadata().to_props()
    assert ModelMetadata.from_props(ModelMetadata().to_props()).reference is None


ONE = {"cuts": [0.5], "counts": [2, 1], "missing": 1}
SOUND = {"rows": 4, "scores": ONE, "features": {"3": ONE}}


def test_the_sound_one_of_the_next_test_is_sound():
    assert Reference.from_facts(SOUND).features[3].counts == (2, 1)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param([], "expected rows, scores and features", id="no-object"),
        pytest.param({**SOUND, "more": 1}, "expected rows, scores and features", id="more"),
        pytest.param({**SOUND, "rows": 0}, "rows: ", id="no-rows"),
        pytest.param({**SOUND, "rows": 4.0}, "rows: ", id="rows-float"),
        pytest.param({**SOUND, "rows": 10**30}, "rows: ", id="rows-huge"),
        pytest.param({**SOUND, "features": {"x": ONE}}, "features: ", id="position"),
        pytest.param({**SOUND, "features": {"03": ONE}}, "features: ", id="position-twice"),
        pytest.param({**SOUND, "features": [ONE]}, "features: ", id="features-list"),
        pytest.param({**SOUND, "scores": {**ONE, "missing": 2}}, "scores: counts", id="scores"),
        *(
            pytest.param(
                {**SOUND, "features": {"3": {**ONE, **part}}}, f"feature 3: {said}", id=case
            )
            for part, said, case in [
                ({"cuts": [math.nan]}, "cuts", "nan"),
                ({"cuts": [1e39]}, "cuts", "beyond-32-bits"),
                ({"cuts": [10**400]}, "cuts", "beyond-any-float"),
                ({"cuts": ["1"]}, "cuts", "text"),
                ({"cuts": [True]}, "cuts", "bool"),
                ({"cuts": [2.0, 1.0], "counts": [1, 1, 1]}, "expected ascending", "descending"),
                ({"cuts": [1.0, 1.0], "counts": [1, 1, 1]}, "expected ascending", "twice"),
                ({"codes": [1]}, "expected cuts or codes", "both"),
                ({"cuts": [], "codes": [-1]}, "expected codes", "negative-code"),
                ({"cuts": [], "codes": [2**24]}, "expected codes", "huge-code"),
                ({"counts": [3]}, "counts", "too-few"),
                ({"counts": [4, -1]}, "counts", "negative"),
                ({"counts": [2, 2]}, "counts", "other-rows"),
                ({"counts": [2.0, 1.0]}, "counts", "floats"),
                ({"missing": None}, "counts", "no-missing"),
                ({"cuts": list(range(20)), "counts": [3, *[0] * 20]}, "counts", "too-many"),
            ]
        ),
    ],
)
def test_a_broken_one_is_refused_and_named(broken, said):
    props = {f"{PREFIX}reference": json.dumps(broken)}
    with pytest.raises(ModelError, match=f"^metadata ranker.reference: {said}"):
        ModelMetadata.from_props(props)


def test_one_of_another_model_is_refused():
    metadata = ModelMetadata(reference=Reference.from_facts(SOUND))
    with pytest.raises(ModelError, match=r"^metadata ranker\.reference: no feature 3$"):
        Model(SumEngine(3), "made up", metadata, "books", "7")


@given(
    st.lists(st.floats(-100, 100, width=32), max_size=200),
    st.sets(st.floats(-100, 100, width=32).map(lambda x: x + 0.0), min_size=1, max_size=60),
)
def test_cuts_are_thresholds_with_the_outermost_ones(values, thresholds):
    some = np.array(sorted(thresholds), np.float32)
    cuts = spread_cuts(np.array(values, np.float32), some)
    assert set(cuts) <= set(some.tolist())
    assert (cuts[0], cuts[-1]) == (some[0], some[-1])
    assert len(cuts) < MOST_BINS
    assert len(cuts) == len(some) or len(some) >= MOST_BINS
    Bins(cuts)


def test_bins_hold_about_equally_many():
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    cuts = spread_cuts(values, np.linspace(-3, 3, 301).astype(np.float32))
    counts = np.array(Histogram.of(Bins(cuts), values).counts)
    assert len(counts) == MOST_BINS
    np.testing.assert_allclose(counts[1:-1], len(values) / 14, rtol=0.15)


def test_the_most_frequent_codes_are_kept():
    values = np.repeat(np.arange(30), np.arange(30)).astype(np.float32)
    assert frequent_codes(np.append(values, [-5, -5.5, np.inf])) == tuple(range(15, 30))


def test_scores_are_cut_into_tenths():
    scores = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    assert Histogram.of(Bins(decile_cuts(scores)), scores).counts == pytest.approx(
        [100] * 10, abs=2
    )
    assert decile_cuts([2.0, 2.0, 2.0]) == (2.0,)
