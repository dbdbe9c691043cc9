"""What is no frame, or can't be taken safely, is refused with what to do."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ranker.categories import Categories
from ranker.errors import InvalidRequestError
from ranker.frames import read_frame
from tests.frames.makers import Stream
from tests.frames.test_frames import GENRES, rows


@pytest.mark.parametrize(
    ("frame", "categories", "words"),
    [
        pytest.param(
            pd.DataFrame({"prise": [1.0], "title": [2.0], "clicks": [3.0]}),
            {},
            r"no feature 'prise' \(did you mean 'price'\?\), 'title'; pass the columns",
            id="unknown",
        ),
        pytest.param(
            pd.DataFrame(np.eye(2), columns=["price", "price"]),
            {},
            "stand twice: price",
            id="twice",
        ),
        pytest.param(
            pa.Table.from_arrays([pa.array([1.0])] * 2, ["price", "price"]),
            {},
            "stand twice: price",
            id="twice-in-arrow",
        ),
        pytest.param(
            pd.DataFrame(np.eye(1), columns=pd.MultiIndex.from_tuples([("price", "eur")])),
            {},
            r"names of text, got \('price', 'eur'\)",
            id="multi-index",
        ),
        pytest.param(
            pd.DataFrame({"genre": ["drama", "essay", "essai", "x", "x"]}),
            {"genre": GENRES},
            r"'genre': the model has no category 'drama', 'essai', 'x'.*it has 'crime', 'poetry'",
            id="unknown-category",
        ),
        pytest.param(
            pd.DataFrame({"genre": ["essai"]}),
            {"genre": GENRES},
            r"no category 'essai' \(did you mean 'essay'\?\)",
            id="misspelt-category",
        ),
        pytest.param(
            pd.DataFrame({"genre": pd.Categorical([1, 2])}),
            {"genre": GENRES},
            "'genre': expected texts, .*got integers",
            id="integers-for-texts",
        ),
        pytest.param(
            pd.DataFrame({"genre": [10, 20]}),
            {"genre": Categories([10, 20])},
            "'genre': .* may be categories or their codes",
            id="integers-or-codes",
        ),
        pytest.param(
            pl.DataFrame({"genre": [10.0, None]}),
            {"genre": Categories([10, 20])},
            "'genre': .* may be categories or their codes",
            id="floats-or-codes",
        ),
        pytest.param(
            pd.DataFrame({"genre": ["010"]}),
            {"genre": Categories([10])},
            "no category '010'",
            id="integer-spelt-otherwise",
        ),
        pytest.param(
            pd.DataFrame({"price": ["1.5"]}), {}, "'price': expected numbers, got text", id="text"
        ),
        pytest.param(
            pd.DataFrame({"price": pd.Categorical([1, 2])}),
            {},
            "'price': expected numbers, got text or categories",
            id="categories-for-a-number",
        ),
        pytest.param(
            pd.DataFrame({"genre": pd.Categorical([0.5])}),
            {"genre": GENRES},
            "'genre': expected categories that are texts or integers, got the float 0.5",
            id="float-categories",
        ),
        pytest.param(
            pd.DataFrame({"genre": pd.Categorical([True])}),
            {"genre": GENRES},
            "'genre': expected categories that are texts or integers, got the bool",
            id="true-or-false-categories",
        ),
        pytest.param(
            pa.table({"genre": pa.array([0.5]).dictionary_encode()}),
            {"genre": GENRES},
            "'genre': expected categories that are texts or integers, got the float 0.5",
            id="float-dictionary",
        ),
        pytest.param(
            pd.DataFrame({"price": [Decimal(1)]}), {}, "'price': .*got the Decimal", id="decimal"
        ),
        pytest.param(
            pd.DataFrame({"genre": pd.Series(["crime", 7], dtype=object)}),
            {"genre": GENRES},
            "'genre': .*got the int 7",
            id="mixed",
        ),
        pytest.param(
            pd.DataFrame({"price": pd.to_datetime(["2026-11-28"])}),
            {},
            "'price': expected numbers, text or categories, got datetime64",
            id="dates",
        ),
        pytest.param(
            pa.table({"price": pa.array([date(2026, 11, 28)])}),
            {},
            "'price': expected numbers, text or categories, got Arrow's type 'tdD'",
            id="arrow-dates",
        ),
        pytest.param(
            pa.table({"price": pa.array([[1.0]])}), {}, "'price': .*Arrow's type '\\+l'", id="lists"
        ),
        pytest.param(
            pd.DataFrame({"price": [1e39]}), {}, "'price': .*beyond float32", id="too-large"
        ),
    ],
)
def test_what_cannot_be_taken_safely_is_refused(frame, categories, words):
    with pytest.raises(InvalidRequestError, match=words):
        rows(frame, categories=categories)


def test_a_model_without_names_takes_no_names():
    with pytest.raises(InvalidRequestError, match=r"features have no names.*pass a matrix"):
        rows(pd.DataFrame({"price": [1.0]}), names=())


class Interchange:
    """A frame of the older interchange protocol."""

    def __dataframe__(self, nan_as_null=False, allow_copy=True):
        raise AssertionError


@pytest.mark.parametrize(
    ("features", "words"),
    [
        pytest.param({"price": [1.0]}, "a builtins dict has names", id="dict"),
        pytest.param(pl.LazyFrame({"price": [1.0]}), "a polars LazyFrame has names", id="lazy"),
        pytest.param(np.zeros(2, [("price", "f4")]), "a numpy ndarray has names", id="structured"),
        pytest.param(Interchange(), "Interchange has names", id="interchange"),
    ],
)
def test_names_that_cannot_be_read_are_refused_with_what_to_do(features, words):
    with pytest.raises(InvalidRequestError, match=f"{words}.*pandas, polars or pyarrow, or"):
        read_frame(features)


@pytest.mark.parametrize(
    "features",
    [
        pytest.param(np.eye(2), id="matrix"),
        pytest.param([[1.0]], id="lists"),
        pytest.param(pd.Series([1.0]), id="pandas-column"),
        pytest.param(pl.Series([1.0]), id="polars-column"),
        pytest.param(pa.array([1.0]), id="arrow-array"),
        pytest.param(pa.chunked_array([[1.0]]), id="arrow-column"),
        pytest.param(7, id="number"),
    ],
)
def test_what_has_no_columns_is_no_frame(features):
    assert read_frame(features) is None


def test_a_table_that_fails_to_come_says_why():
    def batches():
        yield pa.record_batch({"price": [1.0]})
        raise RuntimeError("the disk is gone")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"price": pa.float64()}), batches())
    with pytest.raises(InvalidRequestError, match=r"can't give it as Arrow: .*the disk is gone"):
        read_frame(Stream(reader))
