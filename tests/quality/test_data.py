from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ranker.errors import InvalidRequestError
from ranker.model import Model
from ranker.quality import RankingData


def data(**changes) -> RankingData:
    arrays = {
        "features": [[1.0], [2.0], [3.0]],
        "labels": [0, 1, 2],
        "query_ids": ["b", "b", "a"],
        **changes,
    }
    return RankingData.from_arrays(**arrays)


def test_queries_keep_the_order_of_their_first_candidates():
    made = data(query_ids=["b", "a", "b"], weights=[2, 1, 2], slices={"country": ["x", "y", "x"]})
    assert made.queries.tolist() == ["b", "a"]
    assert made.sizes.tolist() == [2, 1]
    assert made.features.ravel().tolist() == [1, 3, 2]
    assert made.labels.tolist() == [0, 2, 1]
    assert made.weights.tolist() == [2, 1]
    assert made.slices["country"].tolist() == ["x", "y"]


def test_queries_count_alike_unless_weighted():
    assert data().weights.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"labels": [0, 1]}, "labels: 2 values for 3", id="too-few-labels"),
        pytest.param({"labels": [0, 1, -1]}, "labels: expected numbers", id="negative-label"),
        pytest.param({"labels": [0, 1, np.nan]}, "labels: expected numbers", id="nan-label"),
        pytest.param({"weights": [1, 2, 1]}, "weights: differs within query b", id="weights"),
        pytest.param({"weights": [0, 0, 0]}, "weights: expected numbers", id="no-weight-at-all"),
        pytest.param({"slices": {"x": [1, 2, 3]}}, "x: differs within query b", id="slice"),
        pytest.param({"propensities": [0, 1, 1]}, "propensities: expected", id="no-propensity"),
        pytest.param({"propensities": [1, 1, 2]}, "propensities: expected", id="above-1"),
        pytest.param({"feature_names": ["a", "b"]}, "feature_names: 2 for 1", id="names"),
        pytest.param(
            {"features": np.zeros((0, 1)), "labels": [], "query_ids": []}, "got none", id="empty"
        ),
        pytest.param({"query_ids": [[1, 2]] * 3}, r"one per candidate, got .*3, 2", id="2d-query"),
        pytest.param(
            {"query_ids": np.array([["a", "b"]] * 3, object)}, "one per cand", id="2d-query-objects"
        ),
        pytest.param({"query_ids": None}, "one per candidate", id="no-queries"),
        pytest.param({"query_ids": [1, np.nan, np.nan]}, "row 1, .*: 2 of them", id="nan-query"),
        pytest.param({"query_ids": ["a", "b", None]}, "row 2, .* has none", id="none-query"),
        pytest.param(
            {"query_ids": pd.array([1, None, 2], "Int64")}, "row 1, .* has none", id="na-query"
        ),
        pytest.param(
            {"query_ids": np.array(["2026-11-30", "NaT", "NaT"], "M8[D]")},
            "row 1, ",
            id="nat-query",
        ),
        pytest.param(
            {"query_ids": np.ma.array([1, 1, 1], mask=[0, 0, 1])}, "row 2, ", id="masked-query"
        ),
        pytest.param(
            {"labels": np.ma.array([0, 1, 2], mask=[0, 0, 1])},
            "labels: .* masked",
            id="masked-label",
        ),
        pytest.param({"features": [1.0, 2.0, 3.0]}, "expected a row per label", id="vector"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        data(**changes)


def test_missing_values_are_the_same_value_of_a_slice():
    made = data(slices={"age": [np.nan, np.nan, 1.0]})
    np.testing.assert_array_equal(made.slices["age"], [np.nan, 1.0])


def test_a_model_gets_its_columns_by_name(books):
    model = Model.load(books.new)
    made = data(
        features=[[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        feature_names=["recency", "unknown", "completion"],
    )
    nan = np.nan
    np.testing.assert_array_equal(made.rows(model), [[3, 1, nan], [6, 4, nan], [9, 7, nan]])
    assert made.absent(model) == ["popularity"]
    with pytest.raises(InvalidRequestError, match="no column is a feature of model 'books'"):
        data(feature_names=["unknown"]).rows(model)


def test_a_data_frame_is_told_by_its_names(books):
    model = Model.load(books.new)
    rows = np.arange(9, dtype=np.float32).reshape(3, 3)
    frame = pd.DataFrame(rows, columns=model.feature_names)
    other = frame[["recency", "popularity", "completion"]]
    np.testing.assert_array_equal(data(features=other).rows(model), rows)
    np.testing.assert_array_equal(data(features=pa.table(dict(other))).rows(model), rows)
    assert data(features=frame[["recency"]]).absent(model) == ["completion", "popularity"]
    for given in (other.columns, ["a", "b"]):
        with pytest.raises(InvalidRequestError, match="feature_names: the data frame has other"):
            data(features=frame, feature_names=given)


def test_a_numbered_frame_is_a_matrix(books):
    model = Model.load(books.new)
    frame = pd.DataFrame(np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(data(features=frame).rows(model), np.eye(3))
    assert data(features=frame).absent(model) == []
    named = data(features=frame, feature_names=pd.Index(model.feature_names[::-1]))
    np.testing.assert_array_equal(named.rows(model), np.eye(3)[:, ::-1])


@pytest.mark.parametrize("made", [list, np.array, pd.DataFrame], ids=["list", "array", "frame"])
def test_a_number_beyond_float32_is_refused_as_by_the_server(made):
    with pytest.raises(InvalidRequestError, match="beyond float32"):
        data(features=made([[1e300], [1.0], [1.0]]))


def test_a_sparse_matrix_may_be_narrower_than_the_model(books):
    """As libsvm's format has no word for a column that is missing everywhere."""
    rows = data(features=np.ones((3, 2)), sparse=True).rows(Model.load(books.new))
    np.testing.assert_array_equal(rows, [[1, 1, np.nan]] * 3)


@pytest.mark.parametrize(("columns", "sparse"), [(2, False), (4, False), (4, True)])
def test_any_other_matrix_has_the_models_columns(books, columns, sparse):
    """Else the columns after one that was not read would be taken for those before them."""
    with pytest.raises(InvalidRequestError, match=f"features: expected 3 columns.* got {columns}"):
        data(features=np.ones((3, columns)), sparse=sparse).rows(Model.load(books.new))


def test_propensities_are_clipped():
    made = data(propensities=[0.01, 0.5, 1])
    assert made.clipped(0.1).propensities.tolist() == [0.1, 0.5, 1]
    assert data().clipped(0.1).propensities is None
