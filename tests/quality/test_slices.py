from __future__ import annotations

import itertools

import numpy as np

from ranker.quality.slices import OTHERS, sliced


def as_dict(values):
    return {text: queries.tolist() for text, queries in sliced(np.array(values))}


def test_texts_come_with_the_most_frequent_first():
    assert as_dict(["b", "a", "a", "c", "a", "b"]) == {"a": [1, 2, 4], "b": [0, 5], "c": [3]}
    assert list(as_dict(["b", "a", "a", "c", "a", "b"])) == ["a", "b", "c"]


def test_few_numbers_come_in_their_order():
    assert list(as_dict([10, 9, 10, 1])) == ["1", "9", "10"]


def test_many_numbers_are_cut_into_quarters():
    found = as_dict(np.arange(100.0))
    assert list(found) == ["up to 24", "above 24, up to 49", "above 49, up to 74", "above 74"]
    assert [len(queries) for queries in found.values()] == [25, 25, 25, 25]


def test_missing_numbers_are_a_slice():
    found = as_dict([*range(20), np.nan, np.nan])
    assert found["nan"] == [20, 21]
    assert sum(len(queries) for queries in found.values()) == 22


def test_rare_texts_go_together():
    found = as_dict(["often"] * 5 + [f"rare {i:02}" for i in range(20)])
    assert len(found) == 12
    assert next(iter(found)) == "often"
    assert len(found[OTHERS]) == 10
    assert sorted(itertools.chain(*found.values())) == list(range(25))


def test_each_query_is_in_one_slice():
    rng = np.random.default_rng(1)
    for values in (rng.random(50), rng.integers(0, 3, 50), rng.integers(0, 30, 50).astype(str)):
        assert sorted(itertools.chain(*as_dict(values).values())) == list(range(50))
