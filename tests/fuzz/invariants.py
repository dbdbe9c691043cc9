"""What a Forest promises, checked the slow and plain way: one node at a time."""

from __future__ import annotations

import itertools
import math

from ranker.errors import ModelError
from ranker.forest import Forest
from ranker.forest.onnx import read_forest


def read_or_refuse(content: bytes) -> Forest | None:
    """Reads hostile bytes: a ModelError or a sound Forest, and nothing else.

    Raises:
        AssertionError: a Forest that breaks a promise.
        Exception: whatever else escaped the reader.
    """
    try:
        forest = read_forest(content)
    except ModelError:
        return None
    check(forest)
    return forest


def check(forest: Forest) -> None:
    """Walks every tree from its root, queue in hand, and checks each promise on the way."""
    nodes = len(forest.feature)
    assert forest.num_features == len(forest.floored) > 0
    assert math.isfinite(forest.base)
    if forest.cover is not None:
        assert len(forest.cover) == nodes
        assert all(math.isfinite(cover) and cover >= 0 for cover in forest.cover.tolist())
    ends = [*forest.roots.tolist()[1:], nodes]
    expected = 0  # the index of the next node in breadth-first order
    for root, end in zip(forest.roots.tolist(), ends, strict=True):
        assert root == expected
        queue = [root]
        for node in queue:
            assert node == expected
            expected += 1
            queue += _check_node(forest, node)
        assert expected == end
    assert expected == nodes


def _check_node(forest: Forest, node: int) -> list[int]:
    """Checks one node; returns its children."""
    feature, value = int(forest.feature[node]), float(forest.threshold[node])
    left = int(forest.left[node])
    begin, end = int(forest.members_begin[node]), int(forest.members_end[node])
    assert 0 <= begin <= end <= len(forest.members)
    if feature == -1:
        assert left == -1
        assert begin == end
        assert math.isfinite(value)
        assert not forest.missing_left[node]
        return []
    assert 0 <= feature < forest.num_features
    assert node < left
    assert not math.isnan(value)
    members = forest.members[begin:end].tolist()
    assert all(a < b for a, b in itertools.pairwise(members))
    assert not any(math.isnan(member) for member in members)
    assert not members or value == 0
    return [left, left + 1]
