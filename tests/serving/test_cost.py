import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.serving.cost import CostModel


def test_knows_nothing_at_first():
    assert CostModel().predict(1000) == 0.0


@given(
    fixed=st.floats(1e-6, 1e-2),
    per_row=st.floats(1e-9, 1e-4),
    rows=st.lists(st.integers(1, 2000), min_size=3, max_size=60),
)
def test_learns_a_line_from_batches_on_it(fixed, per_row, rows):
    cost = CostModel()
    for n in (1, 1000, *rows):
        cost.observe(n, fixed + per_row * n)
    for n in (1, 100, 1000):
        assert cost.predict(n) == pytest.approx(fixed + per_row * n, rel=0.02)


def test_one_size_only_is_proportional():
    cost = CostModel()
    for _ in range(10):
        cost.observe(100, 0.001)
    assert cost.predict(200) == pytest.approx(0.002)


def test_follows_a_change():
    cost = CostModel()
    for n in (10, 1000) * 50:
        cost.observe(n, 1e-4 + 1e-6 * n)
    for n in (10, 1000) * 200:
        cost.observe(n, 2e-4 + 2e-6 * n)
    assert cost.predict(500) == pytest.approx(2e-4 + 2e-6 * 500, rel=0.05)


def test_one_stall_does_not_spoil_it():
    cost = CostModel()
    for n in (10, 1000) * 50:
        cost.observe(n, 1e-4 + 1e-6 * n)
    before = cost.predict(1000)
    cost.observe(1000, 5.0)
    assert cost.predict(1000) < 1.2 * before


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1)), max_size=40))
def test_never_negative_and_never_falls_with_rows(observations):
    cost = CostModel()
    for rows, seconds in observations:
        cost.observe(rows, seconds)
    assert 0.0 <= cost.predict(1) <= cost.predict(1000)
