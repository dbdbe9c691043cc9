import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import InvalidRequestError, ModelError
from ranker.model.features import FeatureContract

NAMES = ("genre", "recency", "length", "age")


def contract(required=()) -> FeatureContract:
    return FeatureContract(4, NAMES, required)


def lay_out(features, candidates, names=(), context_names=(), context=()):
    """A request's rows as the model expects them."""
    plan = features.plan(candidates.shape[1], names, context_names)
    return candidates if plan is None else plan.rows(candidates, np.float32(context))


def test_the_models_own_columns_are_not_copied():
    assert contract().plan(4) is None


@given(st.permutations(NAMES), st.integers(0, 4), st.integers(1, 5))
def test_any_order_and_any_subset(names, sent, n):
    names = names[:sent]
    candidates = np.arange(n * sent, dtype=np.float32).reshape(n, sent)
    if not names:
        return
    rows = lay_out(contract(), candidates, names)
    assert rows.shape == (n, 4)
    for column, name in enumerate(NAMES):
        if name in names:
            assert rows[:, column].tolist() == candidates[:, names.index(name)].tolist()
        else:
            assert np.isnan(rows[:, column]).all()


def test_the_context_is_joined_to_every_candidate():
    candidates = np.array([[1, 2], [3, 4]], np.float32)
    rows = lay_out(contract(), candidates, ("length", "genre"), ("age",), (9.0,))
    np.testing.assert_array_equal(rows, [[2, np.nan, 1, 9], [4, np.nan, 3, 9]])


def test_unnamed_candidates_beside_a_context_are_the_other_columns_in_order():
    candidates = np.array([[1, 2, 3]], np.float32)
    rows = lay_out(contract(), candidates, (), ("recency",), (9.0,))
    assert rows.tolist() == [[1, 9, 2, 3]]


@pytest.mark.parametrize(
    ("columns", "names", "context", "field", "words"),
    [
        pytest.param(3, (), {}, "candidates.columns", "expected 4 columns", id="too-few-columns"),
        pytest.param(5, (), {}, "candidates.columns", "got 5", id="too-many-columns"),
        pytest.param(
            2, ("genre",), {}, "candidates.columns", "expected 1 columns", id="columns-not-names"
        ),
        pytest.param(2, ("genre", "author"), {}, "feature_names[1]", "'author'", id="unknown-name"),
        pytest.param(
            2,
            ("age", "age"),
            {},
            "feature_names[1]",
            "already sent in feature_names",
            id="repeated",
        ),
        pytest.param(
            1, ("age",), {"age": 1}, "feature_names[0]", "already sent in context", id="in-both"
        ),
        pytest.param(
            3, (), {"mood": 1}, "context.feature_names[0]", "'mood'", id="unknown-in-context"
        ),
        pytest.param(
            4, (), {"age": 1}, "candidates.columns", "expected 3 columns", id="column-also-context"
        ),
    ],
)
def test_what_breaks_the_contract_is_named(columns, names, context, field, words):
    candidates = np.zeros((2, columns), np.float32)
    with pytest.raises(InvalidRequestError) as caught:
        lay_out(contract(), candidates, names, tuple(context), tuple(context.values()))
    assert caught.value.field == field
    assert words in caught.value.description


def test_required_features_must_be_sent_in_either_place():
    strict = contract(required=("genre", "age"))
    one = np.zeros((1, 1), np.float32)
    lay_out(strict, one, ("genre",), ("age",), (1.0,))
    with pytest.raises(InvalidRequestError, match=r"\['age'\]"):
        lay_out(strict, one, ("genre",))


def test_a_model_without_names_takes_none():
    with pytest.raises(InvalidRequestError, match="no names"):
        lay_out(FeatureContract(2), np.zeros((1, 1), np.float32), ("a",))


@pytest.mark.parametrize(
    ("names", "required", "words"),
    [
        pytest.param(("a",), (), "1 names for 2 features", id="too-few-names"),
        pytest.param(("a", "a"), (), "twice", id="repeated-name"),
        pytest.param(("a", "b"), ("c",), "'c'", id="required-unknown"),
    ],
)
def test_a_broken_contract_is_refused(names, required, words):
    with pytest.raises(ModelError, match=words):
        FeatureContract(2, names, required)


def test_plans_that_are_kept_take_little_room():
    """However many orders of many names callers send."""
    width = 3000
    names = [f"feature {i}" for i in range(width)]
    features = FeatureContract(width, names)

    def ask(order: int) -> None:
        sent = "\n".join(names[order:] + names[:order]).split("\n")  # texts of its own
        plan = features.plan(width, sent)
        assert plan is not None
        assert plan.candidate_columns[0] == order

    ask(0)
    tracemalloc.start()
    try:
        for order in [*range(400), 7]:
            ask(order)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 8 * 2**20


def test_a_plan_is_made_once_for_the_same_names():
    features = FeatureContract(3, ["a", "b", "c"])
    for names, context in ([["c", "a", "b"], []], [["b"], ["c"]], [[], ["b"]]):
        columns = len(names) or 3 - len(context)
        first = features.plan(columns, list(names), context)
        assert features.plan(columns, list(names), context) is first
    assert features.plan(2, [], ["a"]) is not features.plan(2, ["b", "c"], ["a"])
