"""A Forest checks its own arrays: what reaches an engine is in bounds and can't loop."""

import dataclasses

import numpy as np
import pytest

from ranker.errors import ModelError
from ranker.forest.forest import MAX_FEATURES, Forest


def forest() -> Forest:
    """Two trees: a leaf; and a split on a set, whose left child is a numeric split."""
    return Forest(
        num_features=3,
        roots=np.array([0, 1], np.int32),
        feature=np.array([-1, 2, 0, -1, -1, -1], np.int32),
        threshold=np.array([9.0, 0.0, 0.5, 1.0, 2.0, 3.0], np.float32),
        left=np.array([-1, 2, 4, -1, -1, -1], np.int32),
        missing_left=np.array([False, True, False, False, False, False]),
        members_begin=np.array([0, 0, 3, 3, 3, 3], np.int32),
        members_end=np.array([0, 3, 3, 3, 3, 3], np.int32),
        members=np.array([1.0, 2.0, 7.0], np.float32),
        floored=np.array([False, False, True]),
        base=np.float32(0),
        logistic=False,
    )


def test_a_sound_forest_is_accepted():
    assert forest().num_features == 3


def test_sets_may_lie_in_any_order():
    members = np.array([5.0, 1.0, 2.0, 7.0, 0.0], np.float32)
    begin = np.array([0, 1, 3, 3, 3, 3], np.int32)
    end = np.array([0, 4, 3, 3, 3, 3], np.int32)
    assert dataclasses.replace(
        forest(), members=members, members_begin=begin, members_end=end
    ).members_end[1]


@pytest.mark.parametrize(
    ("field", "changes", "message"),
    [
        pytest.param("roots", {0: 1}, "roots", id="first-root-not-0"),
        pytest.param("roots", {1: 0}, "roots", id="roots-not-ascending"),
        pytest.param("roots", {1: 6}, "roots", id="root-beyond"),
        pytest.param("roots", {1: 2}, "tree 0: 1 splits among 2 nodes", id="root-inside"),
        pytest.param("left", {2: 9}, "node 2: wrong left child", id="left-beyond"),
        pytest.param("left", {1: 1}, "node 1: wrong left child", id="loop"),
        pytest.param("left", {1: -1}, "node 1: wrong left child", id="no-left"),
        pytest.param("left", {4: 1}, "node 4: a leaf has a child", id="leaf-with-child"),
        pytest.param("feature", {3: 0}, "tree 1: 3 splits among 5", id="leaf-made-split"),
        pytest.param("feature", {2: -1}, "tree 1: 1 splits among 5", id="split-made-leaf"),
        pytest.param("feature", {2: 3}, "node 2: no such feature", id="feature-beyond"),
        pytest.param("feature", {3: -2}, "node 3: no such feature", id="feature-negative"),
        pytest.param("threshold", {2: np.nan}, "node 2: the threshold is NaN", id="nan-split"),
        pytest.param("threshold", {0: np.nan}, "node 0: the threshold is NaN", id="nan-leaf"),
        pytest.param("threshold", {0: np.inf}, "node 0: the leaf's value", id="infinite-leaf"),
        pytest.param("threshold", {1: 1.0}, "node 1: a categorical split has", id="set-threshold"),
        pytest.param("missing_left", {0: True}, "node 0: a leaf has a missing", id="leaf-missing"),
        pytest.param("members_end", {1: 4}, "node 1: the set is out of range", id="set-beyond"),
        pytest.param("members_end", {2: 2}, "node 2: the set is out of range", id="set-backwards"),
        pytest.param("members_begin", {1: -1}, "node 1: the set is out of", id="set-before"),
        pytest.param("members_begin", {0: -1, 1: 0}, "node 0: the set", id="leaf-set-before"),
        pytest.param("members_begin", {4: 2}, "node 4: a leaf has a set", id="leaf-with-set"),
        pytest.param("members", {1: 1.0}, "node 1: the set doesn't ascend", id="repetition"),
        pytest.param("members", {0: 3.0}, "node 1: the set doesn't ascend", id="descent"),
        pytest.param("members", {2: np.nan}, "members: a member is NaN", id="nan-member"),
    ],
)
def test_wrong_values_are_refused(field, changes, message):
    array = getattr(forest(), field)
    for i, value in changes.items():
        array[i] = value
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(forest(), **{field: array})


def test_children_before_their_split_are_refused():
    """A bitmap of leaves that isn't a tree, though it has one leaf more than splits."""
    sound = forest()
    changes = {
        "feature": np.array([-1, -1, 0, 0, -1, -1], np.int32),
        "left": np.array([-1, -1, 2, 4, -1, -1], np.int32),
        "threshold": np.ones(6, np.float32),
        "missing_left": np.zeros(6, np.bool_),
        "members_end": sound.members_begin,
    }
    with pytest.raises(ModelError, match="node 2: wrong left child"):
        dataclasses.replace(sound, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"num_features": 0}, "num_features", id="no-features"),
        pytest.param({"num_features": MAX_FEATURES + 1}, "num_features", id="too-many-features"),
        pytest.param({"num_features": 2}, "floored: 3 values; expected 2", id="floored-length"),
        pytest.param({"roots": np.zeros(0, np.int32)}, "roots", id="no-trees"),
        pytest.param({"left": np.zeros(6)}, "left: .*int32", id="dtype"),
        pytest.param({"left": np.zeros(5, np.int32)}, "left: 5 values; expected 6", id="length"),
        pytest.param({"left": np.zeros(12, np.int32)[::2]}, "left: .*contiguous", id="strided"),
        pytest.param({"members": np.zeros((3, 1), np.float32)}, "members: .*vector", id="matrix"),
        pytest.param({"base": np.float32("nan")}, "base", id="nan-base"),
        pytest.param({"base": np.float32("inf")}, "base", id="infinite-base"),
    ],
)
def test_wrong_arrays_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(forest(), **changes)
