import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranker.model.order import best_first


def by_definition(scores: np.ndarray, top_k: int) -> list[int]:
    ranking = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    return ranking[: top_k or None]


@given(
    scores=hnp.arrays(np.float32, st.integers(1, 60), elements=st.integers(-3, 3)),
    top_k=st.integers(0, 70),
)
def test_score_descending_then_position(scores, top_k):
    assert best_first(scores, top_k).tolist() == by_definition(scores, top_k)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(512, 1500),
    distinct=st.integers(1, 2000),
    top_k=st.integers(0, 1600),
)
def test_long_lists_with_ties_at_the_cut(seed, size, distinct, top_k):
    scores = np.random.default_rng(seed).integers(0, distinct, size).astype(np.float32)
    assert best_first(scores, top_k).tolist() == by_definition(scores, top_k)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([0.0, -0.0, 0.0], [0, 1, 2], id="signed-zeros-are-ties"),
        pytest.param([-np.inf, np.inf, 1.0], [1, 2, 0], id="infinities"),
        pytest.param([np.nan, 1.0, 2.0], [2, 1, 0], id="nan-last"),
        pytest.param([1.0], [0], id="one"),
    ],
)
def test_special_values(scores, expected):
    assert best_first(np.array(scores, np.float32)).tolist() == expected


def test_nan_last_when_selecting():
    scores = np.full(1000, np.nan, np.float32)
    scores[[7, 900]] = [1.0, 2.0]
    assert best_first(scores, 4).tolist() == [900, 7, 0, 1]


def test_dtype():
    assert best_first(np.ones(3, np.float32)).dtype == np.intp
