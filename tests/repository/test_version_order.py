"""Versions in the order of their age."""

import itertools

import pytest

from ranker.repository.version_order import by_age, next_number


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param(["1", "2", "10", "100"], id="numbers"),
        pytest.param(["v9", "v10"], id="numbers-after-a-letter"),
        pytest.param(["2026-09-30", "2026-10-01"], id="dates"),
        pytest.param(["1.9.0", "1.10.0", "2.0.0"], id="dotted"),
        pytest.param(["7", "autumn", "winter"], id="words-after-numbers"),
        pytest.param(["07", "7"], id="the-same-number"),
    ],
)
def test_names_sort_by_the_numbers_in_them(versions):
    for order in itertools.permutations(versions):
        assert sorted(order, key=by_age) == versions


@pytest.mark.parametrize(
    ("versions", "number"), [([], "1"), (["9", "10"], "11"), (["autumn"], "1"), (["7", "v9"], "8")]
)
def test_the_next_number_is_after_the_largest(versions, number):
    assert next_number(versions) == number
