from __future__ import annotations

import datetime
import decimal
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from ranker.distribution import MissingExtraError
from ranker.errors import InvalidRequestError
from ranker.quality import Columns, read_data


def written(folder, columns, suffix=".parquet"):
    path = folder / f"test{suffix}"
    table = pa.table(columns)
    (parquet.write_table if suffix == ".parquet" else csv.write_csv)(table, path)
    return path


BOTH = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


@BOTH
def test_a_table_with_all_kinds_of_columns(tmp_path, suffix):
    path = written(
        tmp_path,
        {
            "session": ["s1", "s1", "s2"],
            "clicked": [1, 0, 1],
            "b": [1, None, 3],
            "title": ["x", "y", "z"],
            "a": [0.5, 1.5, None],
            "flag": [True, False, True],
            "country": ["SE", "SE", None],
            "w": [2.0, 2.0, 1.0],
            "p": [1.0, 0.5, 0.25],
        },
        suffix,
    )
    columns = Columns("session", "clicked", weight="w", propensity="p", slices=("country",))
    data = read_data(path, ["a", "b", "flag", "absent"], columns)
    assert data.feature_names == ("b", "a", "flag")
    nan = np.nan
    np.testing.assert_array_equal(data.features, [[1, 0.5, 1], [nan, 1.5, 0], [3, nan, 1]])
    assert data.labels.tolist() == [1, 0, 1]
    assert data.queries.tolist() == ["s1", "s2"]
    assert data.weights.tolist() == [2, 1]
    assert data.propensities.tolist() == [1, 0.5, 0.25]
    assert data.slices["country"][0] == "SE"
    assert data.source == str(path)


def test_columns_of_a_warehouse(tmp_path):
    path = written(
        tmp_path,
        {
            "qid": pa.array(["s1", "s1", "s2"]).dictionary_encode(),
            "label": pa.array([decimal.Decimal("1.0"), decimal.Decimal("0"), decimal.Decimal("2")]),
            "price": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("3")]),
            "country": pa.array(["SE", "SE", None]).dictionary_encode(),
        },
    )
    data = read_data(path, ["price"], Columns(slices=("country",)))
    np.testing.assert_array_equal(data.features, [[1.25], [np.nan], [3]])
    assert data.labels.tolist() == [1, 0, 2]
    assert data.slices["country"].tolist() == ["SE", "(none)"]


@pytest.mark.parametrize("rest", [[], [None]], ids=["complete", "a-null"])
def test_large_whole_numbers_are_rounded_once(tmp_path, rest):
    number = 2**60 + 2**36 + 1
    count = 1 + len(rest)
    columns = {"qid": [1] * count, "label": [1] * count, "x": [number, *rest]}
    data = read_data(written(tmp_path, columns), ["x"])
    assert data.features[0, 0] == np.int64(number).astype(np.float32)
    assert np.isnan(data.features[1:]).all()


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param([str(2**64 - 5000), str(2**64 - 4999)], id="beyond-64-bits-with-a-sign"),
        pytest.param(["9007199254740993.0", "9007199254740992.0"], id="beyond-53-bits"),
        pytest.param(["007", "7"], id="zeros"),
        pytest.param(["1e1", "10"], id="exponent"),
        pytest.param(["true", "True"], id="truths"),
        pytest.param(["2026-12-01T10:00", "2026-12-01T10:00:00"], id="dates"),
    ],
)
def test_query_ids_of_a_csv_file_are_told_apart_as_they_are_written(tmp_path, ids):
    path = tmp_path / "test.csv"
    path.write_text("qid,label,x\n" + "".join(f"{each},{at},0.5\n" for each in ids for at in "01"))
    data = read_data(path, ["x"])
    assert data.queries.tolist() == ids
    assert data.sizes.tolist() == [2, 2]


def test_a_query_id_may_be_a_number_of_the_models_too(tmp_path):
    path = written(tmp_path, {"user": [7, 7, 8], "label": [1, 0, 1]}, ".csv")
    data = read_data(path, ["user"], Columns(group="user"))
    assert data.features.tolist() == [[7], [7], [8]]
    assert data.sizes.tolist() == [2, 1]


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(["1", "", "2"], id="digits"),
        pytest.param(["true", "", "false"], id="truths"),
        pytest.param(["NA", '""', "nan"], id="what-others-write-for-nothing"),
    ],
)
def test_categories_of_a_csv_file_are_text_and_an_empty_cell_is_missing(tmp_path, cells):
    path = tmp_path / "test.csv"
    path.write_text("qid,label,c,x\n" + "".join(f"q,1,{each},NA\n" for each in cells))
    data = read_data(path, ["c", "x"], categorical=["c", "absent"])
    assert list(data.texts["c"].dictionary) == [cells[0], cells[2]]
    assert data.texts["c"].indices.tolist() == [0, -1, 1]
    assert np.isnan(data.features).all()  # an NA of a number is missing, as before


@BOTH
def test_a_model_without_names_gets_all_other_numbers(tmp_path, suffix):
    path = written(
        tmp_path,
        {"x": [1, 2], "qid": [1, 1], "title": ["a", "b"], "label": [0, 1], "y": [3, 4]},
        suffix,
    )
    data = read_data(path)
    assert data.feature_names == ()
    assert data.features.tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("columns", "features", "problem"),
    [
        pytest.param({"query": [1], "label": [1], "x": [1]}, ["x"], "no column 'qid'", id="qid"),
        pytest.param(
            {"qid": [1], "lable": [1], "x": [1]}, ["x"], "did you mean 'lable'", id="label"
        ),
        pytest.param({"qid": [1], "label": [1]}, ["x"], "no column is a feature", id="features"),
        pytest.param(
            {"qid": [1], "label": ["good"], "x": [1]}, ["x"], "'label': expected numbers", id="text"
        ),
        pytest.param(
            {"qid": [1, 1], "label": [1, None], "x": [1, 1]},
            ["x"],
            "1 empty cells",
            id="unlabelled",
        ),
        pytest.param(
            {"qid": [1], "label": [1], "x": [datetime.date(2026, 11, 30)]},
            ["x"],
            "'x': expected numbers, text or categories",
            id="date",
        ),
        pytest.param(
            {"qid": [1], "label": [1], "x": [1e300]}, ["x"], "'x'.*beyond float32", id="too-large"
        ),
    ],
)
def test_tables_that_lack_something_are_refused(tmp_path, columns, features, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        read_data(written(tmp_path, columns), features)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_no_table_is_refused(tmp_path, suffix):
    path = tmp_path / f"test{suffix}"
    path.write_bytes(b"a,b\n1,2\n3\n")
    with pytest.raises(InvalidRequestError, match=f"test{suffix}: "):
        read_data(path, ["a"])


@BOTH
@pytest.mark.parametrize("features", [["x", "title"], []], ids=["by-name", "all-numbers"])
def test_a_table_without_rows_is_refused(tmp_path, suffix, features):
    types = {"qid": pa.int64(), "label": pa.int64(), "x": pa.float64(), "title": pa.string()}
    path = written(tmp_path, {name: pa.array([], kind) for name, kind in types.items()}, suffix)
    with pytest.raises(InvalidRequestError, match=rf"test{suffix}: holds no candidates"):
        read_data(path, features)


@BOTH
@pytest.mark.parametrize("ids", [[1, None, 2], ["a", None, "b"]], ids=["numbers", "texts"])
def test_candidates_of_no_query_are_refused(tmp_path, suffix, ids):
    path = written(tmp_path, {"qid": ids, "label": [1, 1, 1], "x": [1, 1, 1]}, suffix)
    with pytest.raises(InvalidRequestError, match=r"'qid': .*1 empty cells, the first in row 2 "):
        read_data(path, ["x"])


def test_candidates_of_a_query_that_is_nan_are_refused(tmp_path):
    ids = pa.array([1.0, np.nan, np.nan], from_pandas=False)
    path = written(tmp_path, {"qid": ids, "label": [1, 1, 1], "x": [1, 1, 1]})
    with pytest.raises(InvalidRequestError, match="row 1, counted from 0, has none"):
        read_data(path, ["x"])


@BOTH
def test_a_column_that_stands_twice_is_refused(tmp_path, suffix):
    path = tmp_path / f"test{suffix}"
    table = pa.table([[1], [1], [0.5], [0.7]], names=["qid", "label", "x", "x"])
    (parquet.write_table if suffix == ".parquet" else csv.write_csv)(table, path)
    for features in (["x"], []):
        # Of a Parquet file pyarrow says it.
        words = rf"test{suffix}: (columns stand twice: x|Multiple matches for .*\(x\))"
        with pytest.raises(InvalidRequestError, match=words):
            read_data(path, features)


def test_libsvm_has_no_columns_by_name(tmp_path):
    (tmp_path / "rank.test").write_text("1 qid:1 0:1\n")
    with pytest.raises(InvalidRequestError, match="no column 'country': libsvm has no names"):
        read_data(tmp_path / "rank.test", columns=Columns(slices=("country",)))


def test_without_pyarrow_it_is_said_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path, {"qid": [1], "label": [1], "x": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow: not installed; .*\[quality\]"):
        read_data(path, ["x"])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="no"):
        read_data(tmp_path / "no.parquet", ["x"])
    with pytest.raises(OSError, match="no"):
        read_data(tmp_path / "no.libsvm")
