"""Every kind of data frame gives the columns that went into it, and imports nothing."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.categories import Categories
from ranker.errors import InvalidRequestError
from ranker.frames import read_frame
from tests.frames.makers import MAKERS, Batch, Stream

NAN = float("nan")
NAMES = ("price", "genre", "clicks")
GENRES = Categories(["crime", "poetry", "essay"])

every_frame = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def rows(frame, names=NAMES, categories=None):
    return read_frame(frame).rows(names, categories or {})


@every_frame
def test_numbers(make):
    frame = make({"clicks": [1, 2, None, 4], "price": [0.5, None, -1.5, 2.0]})
    assert read_frame(frame).names == ("clicks", "price")
    np.testing.assert_array_equal(rows(frame), [[1, 0.5], [2, NAN], [NAN, -1.5], [4, 2]])


@every_frame
def test_text_is_coded_by_value(make):
    frame = make({"genre": ["poetry", "crime", None, "poetry"], "price": [1.0, 2.0, 3.0, 4.0]})
    coded = rows(frame, categories={"genre": GENRES})
    np.testing.assert_array_equal(coded, [[1, 1], [0, 2], [NAN, 3], [1, 4]])


@every_frame
def test_text_in_a_long_frame(make):
    """Texts of more than twelve bytes lie elsewhere in Arrow's newest layout."""
    texts = [f"{'a long name of a genre ' * (i % 3)}ü{i % 5}" for i in range(100)]
    known = Categories(sorted(set(texts)))
    coded = rows(make({"genre": texts}), categories={"genre": known})
    assert [known.values[int(code)] for code in coded[:, 0]] == texts


@every_frame
def test_truth_is_a_number(make):
    np.testing.assert_array_equal(rows(make({"clicks": [True, False, True]})), [[1], [0], [1]])


@every_frame
@pytest.mark.parametrize(
    "known",
    [{}, {"genre": GENRES}, {"genre": Categories([1])}],
    ids=["unknown", "texts", "integers"],
)
def test_a_column_without_values_is_missing_whatever_a_library_makes_of_it(make, known):
    frame = make({"price": [1.0, 2.0], "genre": [None, None]})
    np.testing.assert_array_equal(rows(frame, categories=known), [[1, NAN], [2, NAN]])


@every_frame
def test_no_rows(make):
    assert rows(make({"price": [], "clicks": []})).shape == (0, 2)


numbers = {
    "i1": pa.int8(),
    "u1": pa.uint8(),
    "i2": pa.int16(),
    "u2": pa.uint16(),
    "i4": pa.int32(),
    "u4": pa.uint32(),
    "i8": pa.int64(),
    "u8": pa.uint64(),
    "f2": pa.float16(),
    "f4": pa.float32(),
    "f8": pa.float64(),
}


@settings(deadline=None, max_examples=200)
@given(
    data=st.data(),
    dtype=st.sampled_from(sorted(numbers)),
    begin=st.integers(0, 70),
    chunks=st.integers(1, 3),
)
def test_arrow_numbers_of_any_type_and_slice(data, dtype, begin, chunks):
    low, high = (0, 100) if dtype.startswith("u") else (-100, 100)
    values = data.draw(st.lists(st.none() | st.integers(low, high), min_size=0, max_size=40))
    column = [None if v is None else np.dtype(dtype).type(v) for v in [7] * begin + values]
    array = pa.array(column, numbers[dtype]).slice(begin)
    table = pa.concat_tables([pa.table({"price": array})] * chunks)
    want = np.array([[NAN if v is None else v] for v in values * chunks], np.float32)
    np.testing.assert_array_equal(rows(table), want.reshape(-1, 1))
    np.testing.assert_array_equal(rows(pl.DataFrame(table)), want.reshape(-1, 1))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(lambda number: np.array([number, number]), id="int64"),
        pytest.param(lambda number: pd.array([number, number], "Int64"), id="nullable"),
        pytest.param(lambda number: pd.array([number, None], "Int64"), id="null"),
    ],
)
def test_large_integers_beside_fractions_are_rounded_once_as_in_xgboost(values):
    frame = pd.DataFrame({"price": values(2**60 + 2**36 + 1), "clicks": np.float64([0.5, 1])})
    want = xgb.DMatrix(frame).get_data().toarray()  # missing ones are not in it
    np.testing.assert_array_equal(np.nan_to_num(rows(frame)), want)


LARGE = 2**60 + 2**36 + 1


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(pa.table({"price": [LARGE, None]}), id="pyarrow"),
        pytest.param(pa.table({"price": pa.array([LARGE, None], pa.uint64())}), id="unsigned"),
        pytest.param(pl.DataFrame({"price": [LARGE, None]}), id="polars"),
        pytest.param(
            pa.table({"price": pa.chunked_array([[LARGE], [None]], pa.int64())}),
            id="missing-in-another-batch",
        ),
    ],
)
def test_large_integers_beside_missing_ones_are_rounded_once_as_in_xgboost(frame):
    assert xgb.DMatrix(frame).get_data().data.tolist() == [2**60 + 2**37]
    np.testing.assert_array_equal(rows(frame), [[2**60 + 2**37], [NAN]])


@pytest.mark.parametrize(
    ("dtype", "missing"),
    [
        *((dtype, None) for dtype in ("boolean", "Int64", "UInt8", "Float32", "Float64")),
        *((f"{name}[pyarrow]", None) for name in ("bool", "int64", "uint8", "float", "double")),
        ("Sparse[float]", NAN),
    ],
)
def test_every_dtype_of_pandas_for_numbers(dtype, missing):
    frame = pd.DataFrame({"price": pd.Series([1, 0, missing, 1], dtype=dtype)})
    np.testing.assert_array_equal(rows(frame), [[1], [0], [NAN], [1]])


def test_sparse_columns_of_pandas():
    integers = pd.DataFrame({"clicks": pd.arrays.SparseArray([0, 3, 0])})
    np.testing.assert_array_equal(rows(integers), [[0], [3], [0]])
    dummies = pd.get_dummies(pd.Series(["price", "genre", "price"]), sparse=True)
    np.testing.assert_array_equal(rows(dummies), [[0, 1], [1, 0], [0, 1]])


CATEGORICAL = {
    "pandas": lambda values, order: pd.DataFrame({"genre": pd.Categorical(values, order)}),
    "polars-enum": lambda values, order: pl.DataFrame(
        {"genre": pl.Series(values, dtype=pl.Enum(order))}
    ),
    "polars": lambda values, order: pl.DataFrame(
        {"genre": pl.Series([*order, *values], dtype=pl.Categorical)}
    ).slice(len(order)),
    "pyarrow": lambda values, order: pa.table({"genre": dictionary(values, order)}),
    "pyarrow-chunked": lambda values, order: pa.concat_tables(
        [
            pa.table({"genre": dictionary(values[:2], order)}),
            pa.table({"genre": dictionary(values[2:], order[::-1])}),
        ]
    ),
    "pandas-arrow": lambda values, order: pa.table({"genre": dictionary(values, order)}).to_pandas(
        types_mapper=pd.ArrowDtype
    ),
    "arrow-array": lambda values, order: Batch(
        pa.record_batch({"genre": dictionary(values, order)})
    ),
}


def dictionary(values, order) -> pa.DictionaryArray:
    indices = pa.array([None if value is None else order.index(value) for value in values])
    return pa.DictionaryArray.from_arrays(indices.cast(pa.int16()), order)


@pytest.mark.parametrize("make", CATEGORICAL.values(), ids=CATEGORICAL)
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]], ids=str)
def test_categories_in_any_order_are_coded_by_value(make, order):
    frame = make(["essay", "crime", None, "poetry"], [GENRES.values[i] for i in order])
    coded = rows(frame, categories={"genre": GENRES})
    np.testing.assert_array_equal(coded, [[2], [0], [NAN], [1]])


@pytest.mark.parametrize("make", CATEGORICAL.values(), ids=CATEGORICAL)
def test_a_few_of_many_categories(make):
    many = [f"a category with a long name, {i}" for i in range(1000)]
    values = [many[999], None, many[0], many[3], many[999]]
    coded = rows(make(values, many[::-1]), categories={"genre": Categories(many)})
    np.testing.assert_array_equal(coded, [[999], [NAN], [0], [3], [999]])


def test_a_dictionary_may_hold_a_missing_value():
    column = pa.DictionaryArray.from_arrays([0, 1, None, 2], ["essay", None, "crime"])
    coded = rows(pa.table({"genre": column}), categories={"genre": GENRES})
    np.testing.assert_array_equal(coded, [[2], [NAN], [NAN], [0]])


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(pd.DataFrame({"genre": pd.Categorical([30, None, 10])}), id="pandas"),
        pytest.param(
            pd.DataFrame({"genre": pd.Categorical([30, None, 10], [40, 30, 10])}), id="reordered"
        ),
        pytest.param(
            pd.DataFrame({"genre": pd.Series([30, None, 10], dtype="Int64").astype("category")}),
            id="pandas-nullable",
        ),
        pytest.param(pa.table({"genre": pa.array([30, None, 10]).dictionary_encode()}), id="arrow"),
        pytest.param(pl.DataFrame({"genre": ["30", None, "10"]}), id="polars-text"),
        pytest.param(pd.DataFrame({"genre": ["30", None, "10"]}), id="pandas-text"),
    ],
)
def test_integer_categories(frame):
    coded = rows(frame, categories={"genre": Categories([10, 20, 30])})
    np.testing.assert_array_equal(coded, [[2], [NAN], [0]])


def test_a_value_that_no_row_has_does_no_harm():
    frame = pd.DataFrame({"genre": pd.Categorical(["essay"], ["drama", "essay"])})
    assert rows(frame, categories={"genre": GENRES}).tolist() == [[2]]


def test_numbers_are_codes_of_texts():
    frame = pd.DataFrame({"genre": [2, 0, -1, 99, 1.5, NAN]})
    coded = rows(frame, categories={"genre": GENRES})
    np.testing.assert_array_equal(coded[:, 0], [2, 0, -1, 99, 1.5, NAN])


def test_numbered_columns_are_a_matrix():
    """As pandas numbers the columns of a matrix; there is nothing to tell them by."""
    frame = read_frame(pd.DataFrame(np.eye(3)))
    assert frame.names_for(NAMES) == frame.names_for(()) == ()
    np.testing.assert_array_equal(frame.rows(NAMES, {"genre": Categories([1])}), np.eye(3))


def test_numbered_columns_are_names_to_a_model_whose_names_are_numbers():
    """As it has them of a frame of which columns were chosen."""
    frame = read_frame(pd.DataFrame(np.eye(3)))
    assert frame.names_for(["2", "0", "1"]) == ("0", "1", "2")
    with pytest.raises(InvalidRequestError, match="no feature '0', '2'"):
        frame.rows(["3", "1"], {})


def test_other_numbers_are_names_as_in_xgboost():
    frame = pd.DataFrame(np.eye(2), columns=[1, 0])
    assert read_frame(frame).names == ("1", "0")
    with pytest.raises(InvalidRequestError, match="no feature '1', '0'"):
        rows(frame)


@pytest.mark.parametrize("kind", [Stream, Batch])
def test_the_memory_that_a_table_lends_is_given_back(kind):
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    columns = {"price": [0.5] * 100_000, "genre": ["crime"] * 100_000}
    read_frame(kind(pa.table(columns) if kind is Stream else pa.record_batch(columns)))
    gc.collect()
    assert pool.bytes_allocated() <= before


def test_no_library_is_imported():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pandas', 'polars', 'pyarrow', 'onnx', "
        "'onnxruntime', 'xgboost']));"
        "import ranker.client, ranker.frames; ranker.frames.read_frame([[1.0]])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
