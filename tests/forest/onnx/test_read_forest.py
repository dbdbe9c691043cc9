"""`read_forest` against the operators' specification, onnxruntime, and the trainers' own scores."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ranker.errors import UnsupportedModelError
from ranker.forest.onnx import growth, read_forest
from tests.forest.onnx.onnx_models import (
    Split,
    Tree,
    evaluate,
    model,
    regressor,
    score,
    tensor,
    tree_ensemble,
)

DATA = Path(__file__).parent / "data"
NUMBERS, CODES = (0, 1), (2, 3)  # features with any value, and with category codes
LARGEST = float(np.finfo(np.float32).max)
DELICATE = [0.0, -0.0, 1e-45, -1e-45, 1.2e-38, LARGEST, -LARGEST, np.inf, -np.inf, 1.0, 2.0, -1.0]

thresholds = st.sampled_from(DELICATE) | st.floats(width=32, allow_nan=False)
weights = st.floats(-(2.0**100), 2.0**100, width=32)
numeric = {
    "feature": st.sampled_from(NUMBERS),
    "value": thresholds,
    "members": st.just(()),
}


def splits(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    below = {"true": children, "false": children}
    return (
        st.builds(
            Split,
            **numeric,
            **below,
            mode=st.sampled_from(["LEQ", "LT", "GTE", "GT", "EQ"]),
            missing_true=st.booleans(),
        )
        | st.builds(Split, **numeric, **below, mode=st.just("NEQ"), missing_true=st.just(True))
        | st.builds(
            Split,
            feature=st.sampled_from(CODES),
            mode=st.just("MEMBER"),
            value=st.just(0.0),
            members=st.lists(st.integers(0, 70).map(float), min_size=1, max_size=9).map(tuple),
            **below,
            missing_true=st.booleans(),
        )
    )


trees = st.lists(st.recursive(weights, splits, max_leaves=12), min_size=1, max_size=4)


def rows_for(trees: list[Tree], seed: int) -> NDArray[np.float32]:
    """Rows of thresholds, their neighbours, delicate values, NaN, and codes in and out of sets."""
    found: list[float] = []

    def collect(tree: Tree) -> None:
        if isinstance(tree, Split):
            found.append(tree.value)
            collect(tree.true)
            collect(tree.false)

    for tree in trees:
        collect(tree)
    with np.errstate(over="ignore"):
        at = np.array(found + DELICATE, np.float32)
        near = np.concatenate([at, *(np.nextafter(at, np.float32(s)) for s in (-np.inf, np.inf))])
    rng = np.random.default_rng(seed)
    rows = rng.choice(near, (40, 4)).astype(np.float32)
    rows[:, CODES] = rng.integers(-2, 75, (40, 2))
    rows[rng.random(rows.shape) < 0.15] = np.nan
    return rows


def onnxruntime_scores(model: ModelProto, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {session.get_inputs()[0].name: rows})[0].ravel()


def assert_same(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Equal as numbers: -0 may be 0."""
    np.testing.assert_array_equal(got, expected)


WRITERS = [
    pytest.param(lambda trees: model(tree_ensemble(trees)), id="opset-5"),
    pytest.param(lambda trees: model(regressor(trees, tensors=True), ml_opset=3), id="opset-3"),
    pytest.param(lambda trees: model(regressor(trees), ml_opset=1), id="opset-1"),
]


@pytest.mark.parametrize("write", WRITERS)
@settings(deadline=None, max_examples=150)
@given(trees=trees, seed=st.integers(0, 2**32))
def test_scores_as_specified_and_as_onnxruntime(write, trees, seed):
    written = write(trees)
    rows = rows_for(trees, seed)
    got = evaluate(read_forest(written.SerializeToString()), rows)
    assert_same(got, np.array([score(trees, row) for row in rows]))
    if not any(map(onnxruntime_loses_nan, trees)):
        assert_same(got, onnxruntime_scores(written, rows))


def onnxruntime_loses_nan(tree: Tree) -> bool:
    """Whether onnxruntime (1.32) makes one set of two that send NaN different ways.

    It does where the second is the false child of the first, on the same feature, and what is true
    of either leads to equal leaves. NaN then goes where the first sends it. The specification and
    XGBoost have it go on to the second.
    """
    if not isinstance(tree, Split):
        return False
    below = tree.false
    if (
        isinstance(below, Split)
        and {tree.mode, below.mode} <= {"EQ", "MEMBER"}
        and tree.feature == below.feature
        and tree.true == below.true
        and (tree.missing_true, below.missing_true) == (False, True)
    ):
        return True
    return onnxruntime_loses_nan(tree.true) or onnxruntime_loses_nan(below)


@pytest.mark.parametrize("second", [1.0, 2.0])
def test_nan_after_a_set_goes_where_the_specification_says(second):
    inner = Split(2, "MEMBER", 0.0, 5.0, 1.0, missing_true=True, members=(second,))
    tree = Split(2, "MEMBER", 0.0, 5.0, inner, missing_true=False, members=(1.0,))
    assert onnxruntime_loses_nan(tree)
    written = model(tree_ensemble([tree]))
    row = np.full((1, 4), np.nan, np.float32)
    assert_same(evaluate(read_forest(written.SerializeToString()), row), np.float32([5.0]))
    # Once this fails, onnxruntime has mended it, and the exception above can go.
    assert onnxruntime_scores(written, row).tolist() == [1.0]


@pytest.mark.parametrize(
    ("members", "onnxruntimes"),
    [
        pytest.param((3.0, 30.0), 2.0, id="small-codes"),
        pytest.param((3.0, 65.0), 1.0, id="codes-from-32-on"),
    ],
)
def test_a_value_with_a_fraction_is_in_no_set_of_whole_numbers(members, onnxruntimes):
    written = model(tree_ensemble([Split(2, "MEMBER", 0.0, 1.0, 2.0, members=members)]))
    row = np.full((1, 4), 3.5, np.float32)
    assert_same(evaluate(read_forest(written.SerializeToString()), row), np.float32([2.0]))
    # Once this fails, onnxruntime has mended it, and `read_forest` has an exception less.
    assert onnxruntime_scores(written, row).tolist() == [onnxruntimes]


@pytest.mark.parametrize("mode", ["LEQ", "LT", "GTE", "GT", "EQ"])
@pytest.mark.parametrize("missing_true", [False, True], ids=["nan-false", "nan-true"])
def test_every_delicate_threshold_in_every_mode(mode, missing_true):
    trees = [Split(0, mode, t, 2.0**i, 0.0, missing_true) for i, t in enumerate(DELICATE)]
    near = np.array([*DELICATE, 3e-45, -3e-45, 0.5, 1e38], np.float32)
    with np.errstate(over="ignore"):
        values = np.concatenate(
            [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
        )
    rows = np.zeros((len(values) + 1, 4), np.float32)
    rows[:, 0] = [*values, np.nan]
    written = model(tree_ensemble(trees))
    got = evaluate(read_forest(written.SerializeToString()), rows)
    assert_same(got, np.array([score(trees, row) for row in rows]))
    assert_same(got, onnxruntime_scores(written, rows))


@pytest.mark.parametrize("missing_true", [False, True], ids=["nan-false", "nan-true"])
def test_a_chain_of_equalities_becomes_one_set(missing_true):
    tree = Split(2, "MEMBER", 0, 1.0, Split(2, "LT", 5.0, 2.0, 3.0), missing_true, (7, 3, 3, 40))
    forest = read_forest(model(regressor([tree]), ml_opset=1).SerializeToString())
    assert len(forest.feature) == 5
    assert forest.members[forest.members_begin[0] : forest.members_end[0]].tolist() == [3, 7, 40]


def test_base_values_are_added_after_the_leaves():
    trees = [0.1, Split(0, "LT", 0.0, 1e8, -1e8), 3.3]
    written = model(regressor(trees, base=-0.7), ml_opset=1)
    rows = np.array([[-1, 0, 0, 0], [1, 0, 0, 0]], np.float32)
    forest = read_forest(written.SerializeToString())
    assert forest.base == np.float32(-0.7)
    assert_same(evaluate(forest, rows), onnxruntime_scores(written, rows))
    assert_same(evaluate(forest, rows), np.array([score(trees, row, -0.7) for row in rows]))


def test_nodes_are_breadth_first_and_trees_in_order():
    left = Split(1, "LT", 2.0, 10.0, Split(2, "GTE", 3.0, 11.0, 12.0))
    forest = read_forest(
        model(tree_ensemble([5.0, Split(0, "LT", 1.0, left, 13.0)])).SerializeToString()
    )
    assert forest.roots.tolist() == [0, 1]
    assert forest.feature.tolist() == [-1, 0, 1, -1, -1, 2, -1, -1]
    assert forest.left.tolist() == [-1, 2, 4, -1, -1, 6, -1, -1]
    assert forest.threshold.tolist() == [5, 1, 2, 13, 10, 3, 12, 11]


def test_few_walks_do_however_few_trees_are_deep(monkeypatch):
    """A level costs NumPy's calls, and one deep tree among many must not cost them each time."""
    deep: Tree = 0.5
    for depth in range(100):
        deep = Split(0, "LT", float(depth), deep, float(-depth))
    trees: list[Tree] = [*[deep, *[0.25] * 63] * 40, deep]
    levels = []
    look = growth._true_is_right
    monkeypatch.setattr(
        growth, "_true_is_right", lambda *arguments: levels.append(1) or look(*arguments)
    )
    forest = read_forest(model(tree_ensemble(trees)).SerializeToString())
    assert 100 < len(levels) < 500
    rows = np.array([[-1.0], [50.0], [99.0], [np.nan]], np.float32)
    np.testing.assert_array_equal(evaluate(forest, rows), [score(trees, row) for row in rows])


def test_surroundings_are_read():
    ensemble = tree_ensemble([Split(2, "MEMBER", 0, 1.0, 0.5, True, (3.0,))])
    ensemble.input[0], ensemble.output[0] = "codes", "sum"
    mask = np.array([[False, False, True, False]])
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Cast", ["same"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Floor", ["float"], ["floor"]),
        helper.make_node("Where", ["mask", "floor", "float"], ["codes"]),
        ensemble,
        helper.make_node("Reshape", ["sum", "flat"], ["vector"]),
        helper.make_node("Sigmoid", ["vector"], ["probability"]),
        helper.make_node("Reshape", ["probability", "column"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(mask, "mask"),
        numpy_helper.from_array(np.array([-1]), "flat"),
        numpy_helper.from_array(np.array([-1, 1]), "column"),
    ]
    forest = read_forest(model(*nodes, constants=constants).SerializeToString())
    assert forest.floored.tolist() == [False, False, True, False]
    assert forest.logistic
    rows = np.array([[0, 0, 3.7, 0], [0, 0, 2.9, 0], [0, 0, np.nan, 0]], np.float32)
    assert evaluate(forest, rows).tolist() == [1, 0.5, 1]


def test_the_last_set_may_end_without_nan():
    node = tree_ensemble([Split(0, "MEMBER", 0, 1.0, 2.0, False, (4.0, -0.0))])
    sets = next(a for a in node.attribute if a.name == "membership_values")
    sets.t.CopyFrom(tensor(TensorProto.FLOAT, [4.0, -0.0]))
    forest = read_forest(model(node).SerializeToString())
    assert forest.members.tolist() == [0.0, 4.0]
    assert not np.signbit(forest.members[0])


@pytest.mark.parametrize(
    ("name", "rows", "tolerance"),
    [
        pytest.param("xgboost_regressor", "rows_with_missing", 0, id="xgboost"),
        pytest.param("lightgbm_ranker", "rows_with_missing", 1e-6, id="lightgbm-ranker"),
        pytest.param("lightgbm_categorical", "rows", 1e-6, id="lightgbm-categorical"),
        pytest.param("sklearn_boosting", "rows", 1e-6, id="scikit-learn"),
    ],
)
def test_other_converters_models(name, rows, tolerance):
    """The trainer's own scores: XGBoost's to the bit; the others sum in float64."""
    scores = np.load(DATA / "scores.npz")
    got = evaluate(read_forest(DATA / f"{name}.onnx"), scores[rows])
    np.testing.assert_allclose(got, scores[name], rtol=tolerance, atol=tolerance)


def test_an_operator_after_the_trees_is_told():
    with pytest.raises(UnsupportedModelError, match="'Exp'"):
        read_forest(DATA / "lightgbm_poisson.onnx")
