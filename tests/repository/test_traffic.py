"""The split of units: the same everywhere, near the shares, and moving few when they change."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from ranker.repository.traffic import Sample, Split, place

UNITS = [f"reader-{i}" for i in range(20_000)]

# Anybody's SHA-256 gives these: docs/rollout.md has them, too.
VECTORS = {
    ("books-2026-11", "reader-1"): 0.67691504972,
    ("books-2026-11", "reader-2"): 0.8230705697,
    ("books", "ünïcode"): 0.99046868133,
}


@pytest.mark.parametrize(("salt", "unit"), VECTORS, ids=lambda text: text)
def test_places_are_what_the_documents_say(salt, unit):
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).hexdigest()
    assert place(salt, unit) == int(digest[:16], 16) / 2**64
    assert place(salt, unit) == pytest.approx(VECTORS[salt, unit], abs=1e-10)


@pytest.mark.parametrize("share", [1, 5, 50])
def test_shares_are_kept_within_binomial_bounds(share):
    split = Split({"stable": 100 - share, "canary": share}, "salt")
    found = Counter(map(split.arm, UNITS))["canary"]
    expected = len(UNITS) * share / 100
    assert abs(found - expected) < 4 * (expected * (1 - share / 100)) ** 0.5


def test_a_larger_share_takes_nobody_away_that_was_in_it():
    before = Split({"canary": 5, "stable": 95}, "salt")
    after = Split({"canary": 10, "stable": 90}, "salt")
    was = {unit for unit in UNITS if before.arm(unit) == "canary"}
    assert was <= {unit for unit in UNITS if after.arm(unit) == "canary"}


def test_another_salt_draws_anew():
    first, second = (Split({"a": 50, "b": 50}, salt) for salt in ("one", "two"))
    same = sum(first.arm(unit) == second.arm(unit) for unit in UNITS)
    assert abs(same / len(UNITS) - 0.5) < 0.02


def test_without_a_unit_each_request_is_drawn():
    split = Split({"a": 50, "b": 50}, "salt")
    assert 300 < Counter(split.arm("") for _ in range(1000))["a"] < 700


def test_an_arm_without_a_share_gets_nobody():
    split = Split({"a": 0, "b": 100}, "salt")
    assert {split.arm(unit) for unit in UNITS} == {"b"}


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_sample_is_a_share_of_the_units_of_each_arm(share):
    sample, split = Sample.of_shadow(share, "salt"), Split({"a": 50, "b": 50}, "salt")
    found = Counter(split.arm(unit) for unit in UNITS if sample.has(unit))
    for arm in ("a", "b"):
        expected = len(UNITS) / 2 * share
        assert abs(found[arm] - expected) < 4 * (expected * (1 - share)) ** 0.5


def test_a_larger_sample_has_all_of_a_smaller_one():
    small, large = Sample(0.1, "salt"), Sample(0.2, "salt")
    assert all(large.has(unit) for unit in UNITS if small.has(unit))


def test_a_unit_is_in_a_sample_by_its_place():
    sample = Sample.of_shadow(0.25, "books")
    assert all(sample.has(unit) == (place("books:shadow", unit) < 0.25) for unit in UNITS)


def test_without_a_unit_each_request_is_in_the_sample_or_not():
    assert 200 < sum(Sample(0.3, "salt").has("") for _ in range(1000)) < 400
    assert all(Sample(1.0, "salt").has("") for _ in range(100))
