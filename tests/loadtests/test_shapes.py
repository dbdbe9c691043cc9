from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.shapes import SHAPES


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=40, deadline=None)
@given(progress=st.floats(0, 1))
def test_a_shape_stays_between_nothing_and_the_peak(name, progress):
    assert 0 <= SHAPES[name](progress) <= 1


@pytest.mark.parametrize(
    ("name", "course"),
    [
        pytest.param("steady", [1, 1, 1], id="steady"),
        pytest.param("ramp", [0, 0.5, 1], id="ramp"),
        pytest.param("spike", [0.2, 1, 0.2], id="spike"),
        pytest.param("steps", [0.1, 0.6, 1], id="steps"),
    ],
)
def test_begin_middle_and_end(name, course):
    assert [SHAPES[name](progress) for progress in (0.0, 0.5, 1.0)] == course
