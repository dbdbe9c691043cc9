"""Candidate files: what is read as a feature, what as a label, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.categories import Categories
from ranker.cli.candidates import read_candidates
from ranker.errors import InvalidRequestError

MODEL = ("genre_affinity", "recency_days", "reader_age_days")
NAN = float("nan")


@pytest.fixture
def read(tmp_path):
    def read(name, content, *, id_columns=(), model=MODEL, categories=None):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif name.endswith(".json"):
            path.write_text(json.dumps(content), encoding="utf-8")
        else:
            np.save(path, content)
        return read_candidates(path, model, id_columns, categories)

    return read


def test_csv(read):
    candidates = read(
        "books.csv",
        "title,recency_days,author,genre_affinity\n"
        '"Salt, Twice",35,Ada Lund,0.71\n'
        "The Quiet Ferry, ,,-1e-3\n"
        "\n"
        "Été,nan,B,3\n",
    )
    assert candidates.feature_names == ("recency_days", "genre_affinity")
    np.testing.assert_array_equal(candidates.features, [[35, 0.71], [NAN, -0.001], [NAN, 3]])
    assert candidates.labels == {
        "title": ("Salt, Twice", "The Quiet Ferry", "Été"),
        "author": ("Ada Lund", "", "B"),
    }
    assert candidates.context == {}


def test_csv_from_a_spreadsheet(read):
    """A byte order mark and CR LF."""
    candidates = read("a.csv", b"\xef\xbb\xbfgenre_affinity,title\r\n1,x\r\n2,y\r\n")
    assert candidates.feature_names == ("genre_affinity",)
    assert candidates.labels == {"title": ("x", "y")}


def test_a_missing_value_of_one_column(read):
    candidates = read("a.csv", 'genre_affinity\n""\n2\n')
    np.testing.assert_array_equal(candidates.features, [[NAN], [2]])


def test_what_is_no_number_for_its_underscores_is_a_label(read):
    assert read("a.csv", "id,genre_affinity\n1_5,1\n").labels == {"id": ("1_5",)}


def test_id_columns_may_hold_numbers(read):
    content = "id,genre_affinity\n0017,1\n42,2\n"
    candidates = read("a.csv", content, id_columns=["id"])
    assert candidates.labels == {"id": ("0017", "42")}
    assert candidates.feature_names == ("genre_affinity",)


def test_an_id_column_is_not_sent(read):
    content = "recency_days,genre_affinity\n3,1\n"
    candidates = read("a.csv", content, id_columns=["recency_days"])
    assert candidates.feature_names == ("genre_affinity",)
    assert candidates.labels == {"recency_days": ("3",)}


def test_json_list(read):
    candidates = read(
        "a.json",
        [
            {"title": "x", "genre_affinity": 1, "recency_days": None},
            {"genre_affinity": 2.5, "recency_days": 1},
            {"title": "z", "genre_affinity": NAN},
        ],
    )
    assert candidates.feature_names == ("genre_affinity", "recency_days")
    np.testing.assert_array_equal(candidates.features, [[1, NAN], [2.5, 1], [NAN, NAN]])
    assert candidates.labels == {"title": ("x", "", "z")}


def test_json_with_context(read):
    candidates = read(
        "a.json",
        {
            "context": {"reader_age_days": 420, "recency_days": None},
            "candidates": [{"id": 7, "genre_affinity": 1}],
        },
        id_columns=["id"],
    )
    assert candidates.feature_names == ("genre_affinity",)
    assert candidates.labels == {"id": ("7",)}
    assert candidates.context == pytest.approx(
        {"reader_age_days": 420, "recency_days": NAN}, nan_ok=True
    )


@pytest.mark.parametrize("model", [MODEL, ()], ids=["named", "without names"])
def test_npy(read, model):
    matrix = np.array([[1, 2, 3], [4, 5, NAN]], dtype=np.float16)
    candidates = read("a.npy", matrix, model=model)
    np.testing.assert_array_equal(candidates.features, matrix)
    assert candidates.feature_names == ()
    assert candidates.labels == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("a.txt", "x", "a.txt: expected a file named .csv, .json or .npy", id="suffix"),
        pytest.param("a.csv", "", "a.csv: expected a first line of column names", id="empty"),
        pytest.param("a.csv", "genre_affinity\n", "a.csv: holds no candidates", id="no rows"),
        pytest.param("a.csv", "genre_affinity,\n1,2\n", "column 2 has no name", id="no name"),
        pytest.param("a.csv", "a,b,a\n1,2,3\n", "column 'a' occurs twice", id="twice"),
        pytest.param(
            "a.csv",
            "title,genre_affinity\nx,1\ny\n",
            "a.csv, line 3: expected 2 cells, got 1",
            id="short line",
        ),
        pytest.param(
            "a.csv",
            'title,genre_affinity\n"two\nlines",1\nx,high\n',
            "a.csv, line 4, genre_affinity: expected a number, got 'high'",
            id="text in a feature",
        ),
        pytest.param(
            "a.csv",
            "genre_affinity,recency_day,zz\n1,2,3\n",
            "the model has no feature 'recency_day' (did you mean 'recency_days'?), 'zz'; ",
            id="unknown numbers",
        ),
        pytest.param(
            "a.csv", "genre_affinity,zz\n1,\n", "the model has no feature 'zz'", id="empty column"
        ),
        pytest.param(
            "a.csv",
            "title\nx\n",
            "no column is a feature of the model: genre_affinity, recency_days",
            id="labels only",
        ),
        pytest.param(
            "a.csv",
            "genre_affinity\n1\n\n2\n",
            'a.csv, line 3: an empty line; write "" for a missing value',
            id="empty line of one column",
        ),
        pytest.param(
            "a.csv",
            "genre_affinity\n1_5\n",
            "a.csv, line 2, genre_affinity: expected a number, got '1_5'",
            id="underscore in a number",
        ),
        pytest.param("a.csv", b"title\n\xff\n", "expected UTF-8 text", id="not UTF-8"),
        pytest.param("a.csv", 'title\n"x\n', "line 2: not comma-separated", id="open quote"),
        pytest.param("a.json", "{", "a.json: not JSON: ", id="broken JSON"),
        pytest.param("a.json", b"\xff\xfe\xff", "a.json: not JSON: ", id="no text at all"),
        pytest.param(
            "a.json",
            '[{"genre_affinity": 1, "genre_affinity": 2}]',
            "a.json: 'genre_affinity' stands twice in one object",
            id="name twice",
        ),
        pytest.param(
            "a.json",
            [{"genre_affinity": True}],
            "a.json, candidate 1, genre_affinity: expected a number, got true",
            id="truth value",
        ),
        pytest.param(
            "a.json",
            {"context": {"recency_days": False}, "candidates": [{"genre_affinity": 1}]},
            "a.json, context, recency_days: expected a number, got false",
            id="truth value in the context",
        ),
        pytest.param("a.json", [], "a.json: holds no candidates", id="no candidates"),
        pytest.param("a.json", [1], "expected a list of objects", id="not objects"),
        pytest.param("a.json", {"context": {}}, "expected a list of objects", id="no list"),
        pytest.param(
            "a.json", {"rows": []}, "expected context and candidates, got rows", id="other keys"
        ),
        pytest.param(
            "a.json",
            [{"genre_affinity": 1}, {"genre_affinity": [2]}],
            "a.json, candidate 2, genre_affinity: expected a number, text or null, got [2]",
            id="nested",
        ),
        pytest.param(
            "a.json",
            [{"genre_affinity": "0.5x"}],
            "a.json, candidate 1, genre_affinity: expected a number, got '0.5x'",
            id="text in a JSON feature",
        ),
        pytest.param(
            "a.json",
            [{"genre_affinity": 10**400}],
            "candidate 1, genre_affinity: expected a number, got 1000",
            id="huge integer",
        ),
        pytest.param(
            "a.json",
            {"context": [], "candidates": [{"genre_affinity": 1}]},
            "a.json, context: expected an object",
            id="context list",
        ),
        pytest.param(
            "a.json",
            {"context": {"recency_days": "old"}, "candidates": [{"genre_affinity": 1}]},
            "a.json, context, recency_days: expected a number, got 'old'",
            id="context text",
        ),
        pytest.param("a.npy", b"no matrix", "not an NPY matrix", id="not NPY"),
        pytest.param("a.npy", b"", "not an NPY matrix", id="empty NPY"),
        pytest.param("a.npy", np.array([{}]), "not an NPY matrix", id="pickled objects"),
    ],
)
def test_what_is_refused(read, name, content, message):
    with pytest.raises(InvalidRequestError) as raised:
        read(name, content)
    assert message in str(raised.value)


def test_several_matrices(tmp_path, read):
    np.savez(tmp_path / "a", x=np.zeros(3))
    with pytest.raises(InvalidRequestError, match="archive of several"):
        read("a.npy", (tmp_path / "a.npz").read_bytes())


def test_id_column_that_is_not_there(read):
    with pytest.raises(InvalidRequestError, match="no column 'isbn'; it has id, genre_affinity"):
        read("a.csv", "id,genre_affinity\n1,2\n", id_columns=["isbn"])


def test_id_column_of_a_matrix(read):
    with pytest.raises(InvalidRequestError, match="no id column"):
        read("a.npy", np.zeros((1, 3)), id_columns=["isbn"])


def test_names_without_a_model_that_has_them(read):
    with pytest.raises(InvalidRequestError, match="model has no feature names"):
        read("a.csv", "genre_affinity\n1\n", model=())


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
            st.none() | st.floats(allow_nan=False),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_csv_round_trip(tmp_path_factory, rows):
    path = Path(tmp_path_factory.mktemp("round_trip")) / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["title", "genre_affinity"])
        writer.writerows(rows)
    candidates = read_candidates(path, MODEL, ["title"])
    expected = [NAN if number is None else number for _, number in rows]
    np.testing.assert_array_equal(candidates.features[:, 0], expected)
    assert candidates.labels["title"] == tuple(title.strip() for title, _ in rows)


CATEGORIES = {"genre_affinity": Categories(["crime", "7"]), "recency_days": Categories([30, 7])}


def test_categories_in_csv(read):
    content = "genre_affinity,recency_days\n7,7\ncrime,\n,30\n"
    candidates = read("a.csv", content, categories=CATEGORIES)
    np.testing.assert_array_equal(candidates.features, [[1, 1], [0, NAN], [NAN, 0]])


def test_categories_in_json(read):
    content = {
        "context": {"reader_age_days": 3, "recency_days": 7},
        "candidates": [{"genre_affinity": "crime"}, {"genre_affinity": None}],
    }
    candidates = read("a.json", content, categories=CATEGORIES)
    np.testing.assert_array_equal(candidates.features, [[0], [NAN]])
    assert candidates.context == {"reader_age_days": 3, "recency_days": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "a.csv",
            "genre_affinity\ncrime\ncrimes\n",
            r"a.csv, line 3, genre_affinity: the model has no category 'crimes' \(did you mean",
            id="misspelt",
        ),
        pytest.param(
            "a.csv", "recency_days\n1\n", "line 2, recency_days: .* no category '1'", id="a-code"
        ),
        pytest.param(
            "a.json", [{"genre_affinity": 7}], "genre_affinity: expected texts", id="number"
        ),
        pytest.param(
            "a.json", [{"recency_days": 7.5}], "recency_days: expected a category", id="fraction"
        ),
        pytest.param(
            "a.json", [{"recency_days": True}], "recency_days: expected a category", id="true"
        ),
        pytest.param(
            "a.json",
            {"context": {"genre_affinity": "x"}, "candidates": [{"recency_days": 7}]},
            "a.json, context, genre_affinity: the model has no category 'x'",
            id="context",
        ),
    ],
)
def test_what_is_no_category_is_refused_by_place(read, name, content, message):
    with pytest.raises(InvalidRequestError, match=message):
        read(name, content, categories=CATEGORIES)
