"""Counting candidates of lists: in the bins of the definition, in steps, and handed out once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.metrics.drift_log import FEATURES_AT_ONCE, SCORES, label_of
from ranker.model import Model
from ranker.model.histogram import Bins, Histogram, Reference
from ranker.model.metadata import ModelMetadata
from ranker.serving.drift_counter import DriftCounter, watched_bins
from ranker.serving.served_model import ServedModel
from tests.fakes import SumEngine
from tests.model.test_histogram import BINS, FLOATS, SPECIAL, defined_bin, numbers_for

NONE = np.empty(0, np.float32)


def served(features: int, reference: Reference | None = None, ranges=None) -> ServedModel:
    metadata = ModelMetadata(reference=reference)
    model = Model(SumEngine(features), "made up", metadata, "books", "8", "ab")
    return ServedModel(model, 100, metrics=None, ranges=ranges)


def counted(counter: DriftCounter, rows: np.ndarray, scores: np.ndarray | None = None):
    """What it hands out after one list, by the columns."""
    scores = rows.sum(axis=1) if scores is None else scores
    for _ in counter.count(rows, None, NONE, scores.astype(np.float32)):
        pass
    assert counter.lists == 1
    found = {each.column: each for each in counter.take()}
    assert counter.lists == 0
    return found


@given(st.lists(BINS, min_size=1, max_size=4), st.lists(FLOATS, max_size=5))
def test_counts_are_those_of_the_definition(bins, some):
    values = [*some, *SPECIAL, *(each for one in bins for each in numbers_for(one))]
    column = np.array(values, np.float32)
    empty = {place: Histogram(each, (0,) * each.count) for place, each in enumerate(bins)}
    counter = DriftCounter(served(len(bins), Reference(1, empty[0], empty)))
    rows = np.repeat(column[:, None], len(bins), axis=1)
    found = counted(counter, rows, column)
    assert set(found) == {*range(len(bins)), SCORES}
    for place, each in {**dict(enumerate(bins)), SCORES: bins[0]}.items():
        where = [defined_bin(each, float(value)) for value in column]
        expected = np.bincount(where, minlength=each.count + 1)
        assert found[place].counts == tuple(expected)
        assert sum(found[place].counts) == len(values)


def test_without_a_reference_features_that_splits_read_are_counted():
    ranges = np.array([[1, 2], [np.nan, np.nan], [3, 3], [-np.inf, np.inf]], np.float32)
    model = served(4, ranges=ranges)
    assert watched_bins(model) == {0: Bins((1.0, 2.0)), 2: Bins((3.0,)), 3: Bins()}
    found = counted(DriftCounter(model), np.array([[0, 9, 3, 9], [1, 9, 3, np.nan]], np.float32))
    assert {column: each.counts for column, each in found.items()} == {
        0: (1, 1, 0, 0),
        2: (0, 2, 0),
        3: (1, 1),
    }
    assert [each.only for each in found.values()] == [None, 3.0, 9.0]
    assert [each.ordered for each in found.values()] == [True, True, False]
    assert all(each.reference is None for each in found.values())


def test_where_nothing_is_known_of_thresholds_all_features_are_counted():
    assert watched_bins(served(2)) == {0: Bins(), 1: Bins()}


def test_wide_models_take_several_steps():
    wide = 3000
    ranges = np.tile(np.array([0, 1], np.float32), (wide, 1))
    counter = DriftCounter(served(wide, ranges=ranges))
    rows = np.zeros((16, wide), np.float32)
    steps = counter.count(rows, None, NONE, np.zeros(16, np.float32))
    next(steps)
    assert counter.lists == 0
    assert len(list(steps)) > 1
    found = list(counter.take())
    assert len(found) == 1000
    assert all(each.counts == (0, 16, 0, 0) for each in found)


def test_nothing_is_counted_twice():
    counter = DriftCounter(served(1, ranges=np.array([[0, 1]], np.float32)))
    first = counted(counter, np.array([[0.5]], np.float32))[0]
    second = counted(counter, np.array([[2.0]], np.float32))[0]
    assert (first.counts, first.only) == ((0, 1, 0, 0), 0.5)
    assert (second.counts, second.only) == ((0, 0, 1, 0), 2.0)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        pytest.param("price", "price", id="plain"),
        pytest.param("x" * 200, "x" * 112 + "... (5)", id="long"),
        pytest.param("\ud800", "?", id="no-utf8"),
    ],
)
def test_names_fit_into_labels(name, label):
    assert label_of(name, 5) == label
    assert FEATURES_AT_ONCE < 64
