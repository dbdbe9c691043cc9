"""Categorical features of evaluated data: categories or codes, and never a guess."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb
from pyarrow import parquet

from ranker.errors import InvalidRequestError
from ranker.export import export_onnx
from ranker.model import Model
from ranker.quality import RankingData, evaluate, read_data

GENRES = ["crime", "drama", "essay", "poetry"]
STORES = [907, 12, 500, 3]
COUNT = 400


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A booster, its model, its data as a frame with categories, and as codes."""
    rng = np.random.default_rng(0)
    genre, store = (rng.choice(values, COUNT) for values in (GENRES, STORES))
    frame = pd.DataFrame({"genre": pd.Categorical(genre), "store": pd.Categorical(store)})
    codes = np.column_stack([frame[name].cat.codes for name in frame])
    label = (codes * [1, 2]).sum(axis=1) % 5
    data = xgb.DMatrix(frame, label, qid=np.arange(COUNT) // 4, enable_categorical=True)
    booster = xgb.train({"objective": "rank:ndcg", "nthread": 1}, data, 5)
    path = tmp_path_factory.mktemp("categories") / "model.onnx"
    export_onnx(booster, path)
    return booster.predict(data, output_margin=True), Model.load(path), frame, codes, label


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """With texts and integers for categories."""
    return pd.DataFrame({name: np.asarray(frame[name]) for name in frame})


def table(frame: pd.DataFrame, label: np.ndarray) -> pa.Table:
    columns = {name: pa.array(frame[name]) for name in frame}
    return pa.table({"qid": np.arange(len(frame)) // 4, "label": label, **columns})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda frame: frame, id="categories"),
        pytest.param(lambda frame: plain(frame).astype(str), id="texts"),
        pytest.param(lambda frame: frame.assign(genre=frame["genre"].cat.codes), id="a-code"),
    ],
)
@pytest.mark.parametrize("written", [True, False], ids=["parquet", "frame"])
def test_categories_get_xgboosts_scores(trained, tmp_path, change, written):
    want, model, frame, _, label = trained
    data = change(frame)[["store", "genre"]]
    if written:
        data = data.assign(store=data["store"].astype(str))  # Parquet has no categories of integers
        parquet.write_table(table(data, label), tmp_path / "data.parquet")
        found = evaluate(model, tmp_path / "data.parquet")
    else:
        found = evaluate(model, RankingData.from_arrays(data, label, np.arange(COUNT) // 4))
    np.testing.assert_array_equal(found.model.scores, want)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["1", "2", "3", "5"], id="digits"),
        pytest.param(["007", "07", "7", "7.0"], id="zeros"),
        pytest.param(["false", "maybe", "no", "true"], id="truths"),
        pytest.param(["True", "False"], id="only-truths"),
        pytest.param(["NA", "SE", "nan", "null"], id="what-others-write-for-nothing"),
        pytest.param(["2026-11-30", "2026-12-01"], id="dates"),
        pytest.param([3, 12, 500, 907], id="integers"),
    ],
)
def test_a_cell_of_a_csv_file_is_a_category_whatever_it_looks_like(tmp_path, values):
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(values) + 1, size=COUNT)  # one more: missing
    cells = pd.Series([*values, None], dtype=object)[chosen].reset_index(drop=True)
    frame = pd.DataFrame({"c": pd.Categorical(cells, categories=values)})
    label, queries = chosen * 3 % 5, np.arange(COUNT) // 4
    data = xgb.DMatrix(frame, label, qid=queries, enable_categorical=True)
    booster = xgb.train({"objective": "rank:ndcg", "nthread": 1}, data, 5)
    export_onnx(booster, tmp_path / "model.onnx")
    path = tmp_path / "data.csv"
    pd.DataFrame({"qid": queries, "label": label, "c": cells}).to_csv(path, index=False)
    found = evaluate(tmp_path / "model.onnx", path)
    np.testing.assert_array_equal(found.model.scores, booster.predict(data, output_margin=True))


def test_numbers_of_a_csv_file_that_was_read_without_a_model_are_no_codes(trained, tmp_path):
    _, model, frame, _, label = trained
    path = tmp_path / "data.csv"
    data = frame.assign(qid=np.arange(COUNT) // 4, label=label, store=np.nan)
    data.to_csv(path, index=False)
    assert evaluate(model, read_data(path, model.feature_names)).queries == COUNT // 4
    data.assign(genre=frame["genre"].cat.codes).to_csv(path, index=False)
    with pytest.raises(InvalidRequestError, match=r"'genre': read from a CSV file as numbers, .*"):
        evaluate(model, read_data(path, model.feature_names))


def test_a_matrix_has_codes(trained):
    want, model, frame, codes, label = trained
    names = list(frame)
    data = RankingData.from_arrays(codes, label, np.arange(COUNT) // 4, feature_names=names)
    np.testing.assert_array_equal(evaluate(model, data).model.scores, want)


@pytest.mark.parametrize("codes", [False, True], ids=["categories", "codes"])
def test_numbers_that_may_be_categories_or_their_codes_are_refused(trained, tmp_path, codes):
    _, model, frame, _, label = trained
    store = frame["store"].cat.codes if codes else np.asarray(frame["store"])
    data = frame.assign(store=store)
    parquet.write_table(table(data, label), tmp_path / "data.parquet")
    for given in (
        tmp_path / "data.parquet",
        RankingData.from_arrays(data, label, np.arange(COUNT) // 4),
    ):
        with pytest.raises(InvalidRequestError, match=r"'store'.*may be categories or their codes"):
            evaluate(model, given)


def test_candidates_are_put_together_with_their_categories(trained):
    want, model, frame, _, label = trained
    mixed = np.random.default_rng(1).permutation(COUNT)
    data = RankingData.from_arrays(frame.iloc[mixed], label[mixed], (np.arange(COUNT) // 4)[mixed])
    scores = evaluate(model, data).model.scores
    first = np.flatnonzero(np.arange(COUNT) // 4 == data.queries[0])
    assert sorted(scores[:4]) == sorted(want[first])


def test_text_for_a_number_is_refused(books, tmp_path):
    columns = {"qid": [1, 1], "label": [0, 1], "completion": ["0.5", "n/a"]}
    parquet.write_table(pa.table(columns), tmp_path / "data.parquet")
    with pytest.raises(InvalidRequestError, match="'completion': expected numbers, got text"):
        evaluate(books.new, tmp_path / "data.parquet")
