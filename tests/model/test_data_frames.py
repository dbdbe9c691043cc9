"""`Model` on data frames, against XGBoost's own predict on the same frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.engine.simd import engine as simd
from ranker.errors import InvalidRequestError
from ranker.export import export_onnx
from ranker.model import Model
from tests.frames.makers import MAKERS, of_matrix

GENRES = ["poetry", "crime", "essay", "drama", "fable"]
STORES = [907, -3, 12, 55]
NAMES = ["price", "genre", "store", "clicks"]
ENGINES = ["simd", "onnx"] if simd.unavailable() is None else ["onnx"]


def invent(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    genre, store = random.integers(-1, len(GENRES), rows), random.integers(-1, len(STORES), rows)
    price = random.normal(size=rows)
    price[random.random(rows) < 0.2] = np.nan
    return pd.DataFrame(
        {
            "price": price,
            "genre": pd.Categorical.from_codes(genre, GENRES),
            "store": pd.Categorical.from_codes(store, STORES),
            "clicks": random.integers(0, 50, rows),
        }
    )


def relevance(frame: pd.DataFrame) -> np.ndarray:
    genre, store = frame.genre.cat.codes, frame.store.cat.codes
    missing = 3 * (genre < 0) + 1.5 * (store < 0)
    value = np.nan_to_num(frame.price) + 2 * (genre == 1) + (store == 1) + missing
    value -= 0.02 * frame.clicks
    return np.digitize(value, np.quantile(value, (0.5, 0.8)))


@pytest.fixture(scope="module")
def booster() -> xgb.Booster:
    frame = invent(600, 0)
    data = xgb.DMatrix(frame, relevance(frame), enable_categorical=True)
    data.set_group([20] * 30)
    return xgb.train({"objective": "rank:ndcg", "max_depth": 4, "max_cat_to_onehot": 3}, data, 10)


@pytest.fixture(scope="module")
def path(booster, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "books.onnx"
    export_onnx(booster, path, required_features=["price"])
    return path


@pytest.fixture(scope="module", params=ENGINES)
def model(request, path) -> Model:
    return Model.load(path, request.param)


def truth(booster: xgb.Booster, frame: pd.DataFrame) -> np.ndarray:
    return booster.predict(xgb.DMatrix(frame, enable_categorical=True), output_margin=True)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 40),
    columns=st.permutations(NAMES),
    genres=st.permutations(GENRES),
    stores=st.permutations(STORES),
)
def test_columns_and_categories_in_any_order(model, booster, seed, rows, columns, genres, stores):
    frame = invent(rows, seed)
    want = truth(booster, frame)
    shuffled = frame[columns].assign(
        genre=frame.genre.cat.reorder_categories(genres),
        store=frame.store.cat.reorder_categories(stores),
    )
    np.testing.assert_array_equal(model.score(shuffled), want)
    order, scores = model.rank(shuffled)
    np.testing.assert_array_equal(order, np.argsort(-want, kind="stable"))
    np.testing.assert_array_equal(scores, want[order])


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_values_in_every_kind_of_frame(model, booster, make):
    frame = invent(50, 1)
    columns = {
        "clicks": frame.clicks.tolist(),
        "genre": [None if value != value else value for value in frame.genre],
        "store": [None if value != value else str(value) for value in frame.store],
        "price": [None if value != value else value for value in frame.price],
    }
    np.testing.assert_array_equal(model.score(make(columns)), truth(booster, frame))


def test_polars_and_arrow_categories(model, booster):
    frame = invent(50, 2)
    want = truth(booster, frame)
    genre = [None if value != value else value for value in frame.genre]
    store = [None if value != value else int(value) for value in frame.store]
    plain = pa.table({"price": frame.price, "clicks": frame.clicks})
    table = plain.append_column("genre", pa.array(genre).dictionary_encode())
    table = table.append_column("store", pa.array(store).dictionary_encode())
    np.testing.assert_array_equal(model.score(table), want)
    for kind in (pl.Categorical, pl.Enum(sorted(GENRES)), pl.String):
        polars = pl.DataFrame(plain).with_columns(
            genre=pl.Series(genre, dtype=kind), store=pl.Series(store).cast(pl.String)
        )
        np.testing.assert_array_equal(model.score(polars), want)


@pytest.mark.parametrize("absent", ["genre", "store", "clicks"])
def test_an_absent_column_is_missing(model, booster, absent):
    frame = invent(50, 3)
    missing = frame.astype({"clicks": float})
    missing[absent] = missing[absent].where(np.zeros(50, bool))
    np.testing.assert_array_equal(model.score(frame.drop(columns=absent)), truth(booster, missing))


def test_a_required_column_may_not_be_absent(model):
    with pytest.raises(InvalidRequestError, match=r"requires features.*\['price'\]"):
        model.score(invent(5, 0).drop(columns="price"))


def test_a_column_too_many_is_refused_by_name(model):
    frame = invent(5, 0).assign(title="x", id=7)
    with pytest.raises(InvalidRequestError, match="no feature 'title', 'id'"):
        model.rank(frame)


@pytest.mark.parametrize(("name", "strange"), [("genre", "western"), ("store", 1000)])
def test_a_value_that_is_no_category_is_refused_as_by_xgboost(model, booster, name, strange):
    frame = invent(5, 0)
    frame[name] = frame[name].cat.add_categories([strange])
    frame.loc[2, name] = strange
    with pytest.raises(xgb.core.XGBoostError, match="not in the training set"):
        truth(booster, frame)
    with pytest.raises(InvalidRequestError, match=f"column '{name}': .* no category {strange!r}"):
        model.score(frame)


@pytest.mark.parametrize(("name", "strange"), [("genre", "drana"), ("store", 13)])
def test_a_value_between_two_categories_is_refused_too(model, name, strange):
    """XGBoost 3.1 and 3.2 take it for the next one: https://github.com/dmlc/xgboost/issues/12189."""
    frame = invent(5, 0)
    frame[name] = frame[name].cat.add_categories([strange])
    frame.loc[2, name] = strange
    with pytest.raises(InvalidRequestError, match=f"column '{name}': .* no category {strange!r}"):
        model.score(frame)


def test_a_categorical_column_of_a_number_is_refused_as_by_xgboost(model, booster):
    frame = invent(5, 0).astype({"clicks": "category"})
    with pytest.raises(xgb.core.XGBoostError):
        truth(booster, frame)
    with pytest.raises(InvalidRequestError, match="column 'clicks': expected numbers"):
        model.score(frame)


CODES = [-1, -0.5, -0.0, 0, 1.5, 3.999, 4, 5, 99, 2**24 - 1, 2**24, 1e9, -1e9, np.nan]


@pytest.mark.parametrize("column", [1, 2], ids=["texts", "integers"])
def test_a_matrix_holds_codes_and_odd_ones_are_xgboosts(model, booster, column):
    """A fraction is cut off; a code that stands for nothing is not the same as a missing value."""
    frame = invent(40, 4)
    matrix = np.column_stack(
        [frame.price, frame.genre.cat.codes, frame.store.cat.codes, frame.clicks]
    )
    rows = np.repeat(matrix, len(CODES), axis=0).astype(np.float32)
    rows[:, column] = np.tile(CODES, len(matrix))
    types = booster.feature_types
    data = xgb.DMatrix(rows, feature_names=NAMES, feature_types=types, enable_categorical=True)
    np.testing.assert_array_equal(model.score(rows), booster.predict(data, output_margin=True))
    codes = pd.DataFrame({"price": rows[:, 0], "genre": rows[:, 1], "clicks": rows[:, 3]})
    if column == 1:  # of texts a frame may hold codes, too
        rows[:, 2] = np.nan
        data = xgb.DMatrix(rows, feature_names=NAMES, feature_types=types, enable_categorical=True)
        np.testing.assert_array_equal(model.score(codes), booster.predict(data, output_margin=True))


@pytest.mark.parametrize("column", [1, 2], ids=["texts", "integers"])
def test_a_code_that_stands_for_nothing_is_not_missing(model, column):
    rows = np.random.default_rng(6).integers(0, 4, (40, 4)).astype(np.float32)
    rows[:, column] = 99
    scores = model.score(rows)
    rows[:, column] = np.nan
    assert (model.score(rows) != scores).any()


def test_a_matrix_in_a_frame_is_a_matrix(model):
    matrix = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_array_equal(model.score(pd.DataFrame(matrix)), model.score(matrix))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        pytest.param(np.zeros((2, 3)), r"expected shape \[n, 4\], got \[2, 3\]", id="narrow"),
        pytest.param(np.zeros(4), r"expected shape \[n, 4\], got \[4\]", id="vector"),
        pytest.param(pd.DataFrame(np.zeros((2, 3))), r"expected shape \[n, 4\]", id="narrow-frame"),
        pytest.param([["1"] * 4], "expected real numbers.*<U1", id="text"),
        pytest.param([[1e39] * 4], "beyond float32", id="too-large"),
        pytest.param({"price": [1.0]}, "a builtins dict has names", id="dict"),
    ],
)
def test_what_is_no_list_of_candidates_is_refused(model, features, words):
    with pytest.raises(InvalidRequestError, match=words):
        model.score(features)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A booster of numbers only, and its model."""
    rows = np.random.default_rng(5).normal(size=(200, 3)).astype(np.float32)
    data = xgb.DMatrix(rows, rows[:, 0] - rows[:, 2], feature_names=["a", "b", "c"])
    booster = xgb.train({"max_depth": 3}, data, 5)
    path = tmp_path_factory.mktemp("numbers") / "model.onnx"
    export_onnx(booster, path)
    return booster, Model.load(path), rows


def test_numbered_columns_are_told_by_the_numbers_that_a_model_has_for_names(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(6).normal(size=(200, 4)).astype(np.float32))
    chosen = frame[[3, 1, 0, 2]]
    booster = xgb.train({"max_depth": 3}, xgb.DMatrix(chosen, 2 * frame[0] + frame[3]), 5)
    assert booster.feature_names == ["3", "1", "0", "2"]
    export_onnx(booster, tmp_path / "model.onnx")
    model = Model.load(tmp_path / "model.onnx")
    want = booster.predict(xgb.DMatrix(chosen), output_margin=True)
    np.testing.assert_array_equal(model.score(chosen), want)
    np.testing.assert_array_equal(model.score(frame), want)
    with pytest.raises(InvalidRequestError, match="no feature '4'"):
        model.score(pd.DataFrame(np.zeros((2, 5))))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_columns_of_numbers_are_told_by_name(numbers, make):
    booster, model, rows = numbers
    rows = np.where(rows > 1.5, np.nan, rows)
    want = booster.predict(xgb.DMatrix(rows, feature_names=["a", "b", "c"]), output_margin=True)
    frame = make(of_matrix(["c", "a", "b"], rows[:, [2, 0, 1]]))
    np.testing.assert_array_equal(model.score(frame), want)
    assert not np.array_equal(model.score(rows[:, [2, 0, 1]]), want)


@pytest.mark.parametrize("made", [np.ma.asarray, list], ids=["array", "list"])
def test_masked_values_are_refused(numbers, made):
    _, model, rows = numbers
    masked = np.ma.masked_array(rows, mask=np.random.default_rng(7).random(rows.shape) < 0.3)
    with pytest.raises(InvalidRequestError, match=r"some values are masked.*filled\(numpy.nan\)"):
        model.score(made(masked))
    model.score(masked.filled(np.nan))
    np.testing.assert_array_equal(model.score(made(np.ma.array(rows))), model.score(rows))


def test_rows_of_a_frame_are_compared_by_their_names(numbers):
    booster, model, rows = numbers
    data = xgb.DMatrix(rows[:2], feature_names=["a", "b", "c"])
    above, below = booster.predict(data, pred_contribs=True)[:, :3]
    other = pd.DataFrame(rows, columns=["a", "b", "c"])[["c", "a", "b"]]
    found = model.compare(other.iloc[0], other.iloc[1])
    np.testing.assert_array_equal(found.above, rows[0])
    np.testing.assert_allclose(found.contributions[:3], above - below, atol=1e-5)
    with pytest.raises(InvalidRequestError, match="no feature 'd'"):
        model.compare(other.assign(d=1.0).iloc[0], other.iloc[1])


def test_a_row_of_a_frame_may_hold_categories(model):
    frame = pd.DataFrame({"genre": ["essay", "crime"], "price": [2.5, None]})
    found = model.compare(frame.iloc[0], frame.iloc[1])
    np.testing.assert_array_equal([found.above, found.below], model.rows(frame))


def test_text_for_a_number_is_refused(numbers):
    _, model, _ = numbers
    with pytest.raises(InvalidRequestError, match="column 'b': expected numbers, got text"):
        model.score(pd.DataFrame({"a": [1.0], "b": ["x"]}))
