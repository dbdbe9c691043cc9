from __future__ import annotations

import numpy as np
import onnx
import pytest
import xgboost as xgb
from onnx import numpy_helper

from ranker.engine.simd import engine as simd
from ranker.errors import InvalidRequestError, UnsupportedModelError
from ranker.export import export_onnx
from ranker.model import Model

pytestmark = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """A small ranker's file and some candidates."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 3)).astype(np.float32)
    matrix = xgb.DMatrix(
        rows, 2 * rows[:, 0] + rows[:, 1] > 0, feature_names=["completion", "recency", "noise"]
    )
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    path = tmp_path_factory.mktemp("books") / "books.onnx"
    booster = xgb.train(parameters, matrix, 20)
    export_onnx(booster, path)
    return path, booster, rows


@pytest.mark.parametrize("engine", ["simd", "onnx"])
def test_any_engines_scores_are_explained(books, engine):
    path, _, rows = books
    model = Model.load(path, engine=engine)
    explained = model.explain(rows)
    assert explained.shape == (len(rows), 4)
    assert explained.dtype == np.float32
    np.testing.assert_allclose(explained.sum(axis=1), model.score(rows), atol=1e-5)


def test_a_probability_is_explained_by_its_margin(books, tmp_path):
    path, booster, rows = books
    export_onnx(booster, tmp_path / "p.onnx", output="probability")
    explained = Model.load(tmp_path / "p.onnx").explain(rows)
    np.testing.assert_array_equal(explained, Model.load(path).explain(rows))


def test_why_one_candidate_is_above_another(books):
    path, _, rows = books
    model = Model.load(path)
    order, scores = model.rank(rows)
    above, below = rows[order[0]], rows[order[-1]]
    comparison = model.compare(above, below)
    assert comparison.difference == pytest.approx(scores[0] - scores[-1], abs=1e-5)
    assert comparison.name(comparison.largest()[0]) == "completion"
    assert comparison.largest(1) == comparison.largest()[:1]
    first, second, *_ = str(comparison).splitlines()
    assert first == f"difference {comparison.difference:+.4f}"
    assert second.startswith("completion ")
    assert f"{above[0]:g} against {below[0]:g}" in second


def test_a_candidate_is_not_above_itself(books):
    path, _, rows = books
    comparison = Model.load(path).compare(rows[0], rows[0])
    assert comparison.difference == 0
    assert comparison.largest() == []
    assert str(comparison) == "difference +0.0000"


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 3, 3)])
def test_what_is_no_matrix_of_the_features_is_refused(books, shape):
    with pytest.raises(InvalidRequestError, match=r"features: expected shape \[n, 3\]"):
        Model.load(books[0]).explain(np.zeros(shape))


@pytest.mark.parametrize("shape", [(2,), (1, 3), ()])
def test_only_single_candidates_are_compared(books, shape):
    with pytest.raises(InvalidRequestError, match="features: expected shape"):
        Model.load(books[0]).compare(np.zeros(3), np.zeros(shape))


def without_hitrates(proto):
    (node,) = (node for node in proto.graph.node if node.op_type == "TreeEnsemble")
    kept = [a for a in node.attribute if a.name != "nodes_hitrates"]
    del node.attribute[:]
    node.attribute.extend(kept)


def without_leaf_covers(proto):
    del proto.training_info[:]


def with_covers_of_one(proto):
    (node,) = (node for node in proto.graph.node if node.op_type == "TreeEnsemble")
    for attribute in node.attribute:
        if attribute.name == "nodes_hitrates":
            ones = np.ones_like(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(ones))
    (leaves,) = proto.training_info[0].initialization.initializer
    ones = np.ones_like(numpy_helper.to_array(leaves))
    leaves.CopyFrom(numpy_helper.from_array(ones, leaves.name))


def with_nan(proto):
    (leaves,) = proto.training_info[0].initialization.initializer
    covers = numpy_helper.to_array(leaves).copy()
    covers[0] = np.nan
    leaves.CopyFrom(numpy_helper.from_array(covers, leaves.name))


def with_doubles(proto):
    (leaves,) = proto.training_info[0].initialization.initializer
    covers = numpy_helper.to_array(leaves).astype(np.float64)
    leaves.CopyFrom(numpy_helper.from_array(covers, leaves.name))


@pytest.mark.parametrize(
    "change", [without_hitrates, without_leaf_covers, with_covers_of_one, with_nan, with_doubles]
)
def test_a_file_without_sound_covers_is_scored_and_not_explained(books, tmp_path, change):
    path, _, rows = books
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, tmp_path / "books.onnx")
    model = Model.load(tmp_path / "books.onnx")
    np.testing.assert_array_equal(model.score(rows), Model.load(path).score(rows))
    with pytest.raises(UnsupportedModelError, match=r"books: .*no node covers.*`ranker export`"):
        model.explain(rows)


def test_covers_take_four_bytes_a_node(books, tmp_path):
    path, *_ = books
    proto = onnx.load(path)
    (leaves,) = proto.training_info[0].initialization.initializer
    nodes = 2 * numpy_helper.to_array(leaves).size
    without_hitrates(proto)
    without_leaf_covers(proto)
    onnx.save(proto, tmp_path / "less.onnx")
    grown = path.stat().st_size - (tmp_path / "less.onnx").stat().st_size
    assert grown < 4 * nodes + 100
