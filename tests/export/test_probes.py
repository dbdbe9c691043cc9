from __future__ import annotations

import math

import numpy as np
import pytest
import xgboost as xgb

from ranker.export.probes import ROWS, probe_rows, with_infinities
from ranker.export.xgboost_model import Tree, XGBoostModel, read

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> XGBoostModel:
    rows = RNG.normal(size=(500, 4)).astype(np.float32)
    rows[:, 3] = RNG.integers(0, 40, 500)
    label = rows[:, 0] + np.sin(3 * rows[:, 1]) + RNG.normal(size=40)[rows[:, 3].astype(int)]
    data = xgb.DMatrix(rows, label, feature_types=list("qqqc"), enable_categorical=True)
    return read(xgb.train({"max_depth": 5}, data, 10))


def test_rows_are_finite_and_the_same_each_time(model):
    rows = probe_rows(model)
    assert rows.dtype == np.float32
    assert rows.shape == (ROWS, 4)
    assert not np.isinf(rows).any()
    np.testing.assert_array_equal(rows, probe_rows(model))


def met(tree: Tree, rows: np.ndarray) -> list[set[float]]:
    """The values with which rows meet each split of a tree; NaN as None."""
    values: list[set] = [set() for _ in tree.left]
    # Lists of Python's own numbers, which are much faster to walk through.
    lefts, rights, missing_left = (
        tree.left.tolist(),
        tree.right.tolist(),
        tree.missing_left.tolist(),
    )
    features, thresholds = tree.feature.tolist(), tree.value.tolist()
    members = {node: set(found.tolist()) for node, found in tree.members.items()}
    for row in rows.tolist():
        node = 0
        while lefts[node] >= 0:
            value = row[features[node]]
            values[node].add(None if math.isnan(value) else value)
            if math.isnan(value):
                left = missing_left[node]
            elif node in members:
                left = value not in members[node]
            else:
                left = value < thresholds[node]
            node = lefts[node] if left else rights[node]
    return values


def test_rows_meet_every_split_on_its_edge(model):
    rows = probe_rows(model)
    for tree in model.trees:
        values = met(tree, rows)
        for node in np.flatnonzero(tree.left >= 0):
            if int(node) in tree.members:
                assert values[node] & set(tree.members[int(node)].tolist())
                assert values[node] - set(tree.members[int(node)].tolist()) - {None}
            else:
                threshold = tree.value[node]
                assert float(threshold) in values[node]
                assert float(np.nextafter(threshold, np.float32(-np.inf))) in values[node]


def test_rows_meet_roots_with_nothing(model):
    rows = probe_rows(model)
    assert all(None in met(tree, rows)[0] for tree in model.trees)


def test_rows_are_missing_some_most_or_all_values(model):
    missing = np.isnan(probe_rows(model)).mean(axis=1)
    assert (missing == 0).mean() > 0.3
    assert ((missing > 0) & (missing < 1)).mean() > 0.2
    assert missing[0] == 1


def test_codes_are_in_sets_and_out_negative_and_not_whole(model):
    codes = probe_rows(model)[:, 3]
    assert {0.0, 39.0, -0.5, -1.0, 16777215.0, 16777216.0} <= set(codes.tolist())
    assert (np.floor(codes) != codes).any()


def test_very_many_features_get_fewer_rows():
    wide = np.zeros((20, 50_000), np.float32)
    wide[:, 7] = np.arange(20)
    data = xgb.DMatrix(wide, wide[:, 7])
    model = read(xgb.train({"max_depth": 2, "tree_method": "exact"}, data, 1))
    rows = probe_rows(model)
    assert rows.shape == (335, 50_000)
    assert model.trees[0].value[0] in rows[:, 7]


def test_infinities_of_both_signs_are_put_in():
    rows = with_infinities(np.zeros((100, 10), np.float32))
    assert rows.dtype == np.float32
    assert np.isposinf(rows).mean() == pytest.approx(0.1, abs=0.05)
    assert np.isneginf(rows).mean() == pytest.approx(0.1, abs=0.05)
