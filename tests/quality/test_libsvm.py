from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file

from ranker.errors import InvalidRequestError
from ranker.quality import libsvm, read_data


def written(folder: Path, text: str, beside: str | None = None, suffix: str = ".query") -> Path:
    path = folder / "rank.test"
    path.write_text(text)
    if beside is not None:
        path.with_name(path.name + suffix).write_text(beside)
    return path


@pytest.mark.parametrize("space", [pytest.param(" ", id="spaces"), pytest.param("\t", id="tabs")])
def test_long_query_ids_are_told_apart(tmp_path, space):
    """As XGBoost does. They differ in what floating-point numbers have no room for."""
    ids = [1_790_000_000_000_000_001 + at // 2 for at in range(10)]
    path = written(tmp_path, "".join(f"1{space}qid:{each}{space}0:1\n" for each in ids))
    data = read_data(path)
    assert data.queries.tolist() == sorted(set(ids))
    assert data.sizes.tolist() == [2] * 5


def test_a_file_with_query_ids(tmp_path):
    path = written(tmp_path, "2 qid:7 1:0.5 3:-inf\n0 qid:7\n1 qid:9 0:nan 2:4e1\n")
    data = read_data(path)
    nan = np.nan
    np.testing.assert_array_equal(
        data.features,
        np.array([[nan, 0.5, nan, -np.inf], [nan] * 4, [nan, nan, 40, nan]], np.float32),
    )
    assert data.labels.tolist() == [2, 0, 1]
    assert data.sizes.tolist() == [2, 1]
    assert data.queries.tolist() == [7, 9]
    assert data.feature_names == ()


@pytest.mark.parametrize("suffix", [".query", ".group"])
def test_a_file_of_query_sizes_beside_it(tmp_path, suffix):
    path = written(tmp_path, "1 0:1\n0 0:2\n1 0:3\n", "2\n0\n1\n", suffix)
    data = read_data(path)
    assert data.sizes.tolist() == [2, 1]
    assert data.queries.tolist() == [1, 3]  # lines of that file


def test_features_that_count_from_one(tmp_path):
    path = written(tmp_path, "1 qid:1 1:5 2:6\n")
    assert read_data(path, first_index=1).features.tolist() == [[5, 6]]


def test_comments_blank_lines_and_line_ends(tmp_path):
    path = written(tmp_path, "# about\n1 qid:1 0:5 # doc 7\r\n\r\n\n0  qid:1\t0:6  \n1 qid:2 0:7")
    data = read_data(path)
    assert data.features.tolist() == [[5], [6], [7]]
    assert data.sizes.tolist() == [2, 1]


@pytest.mark.parametrize(
    "piece", [pytest.param(1 << 24, id="at-once"), pytest.param(30, id="in-pieces")]
)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param("1 qid:1 0:x", id="no-number"),
        pytest.param("1 qid:1 -1:1", id="negative"),
    ],
)
def test_errors_name_the_line_of_the_file(tmp_path, monkeypatch, piece, line):
    """Comments and blank lines count, as in an editor."""
    monkeypatch.setattr(libsvm, "_PIECE", piece)
    path = written(tmp_path, f"# about\n\n1 qid:1 0:5 # doc 7\n \n\n# more\n{line}\n# end\n")
    with pytest.raises(InvalidRequestError, match="line 7: "):
        read_data(path)


def test_pieces_of_comments_alone(tmp_path, monkeypatch):
    about = "# a comment as long as a piece\n"
    monkeypatch.setattr(libsvm, "_PIECE", len(about))
    path = written(tmp_path, f"{about * 3}1 qid:1 0:5\n{about * 3}0 qid:2 0:6\n{about * 3}")
    data = read_data(path)
    assert data.features.tolist() == [[5], [6]]
    assert data.queries.tolist() == [1, 2]


def test_query_ids_only_in_some_pieces_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(libsvm, "_PIECE", 12)
    path = written(tmp_path, "1 qid:1 0:5\n0 0:6\n0 0:7\n", beside="3\n")
    with pytest.raises(InvalidRequestError, match="some have none"):
        read_data(path)


def test_lines_of_spaces_and_values_in_any_order(tmp_path):
    data = read_data(written(tmp_path, " \n1 qid:1 2:5 0:inf\n \t\n 0 qid:1 1:-INF\n"))
    nan = np.nan
    np.testing.assert_array_equal(data.features, [[np.inf, nan, 5], [nan, -np.inf, nan]])


def test_queries_that_are_not_together_are_put_together(tmp_path):
    path = written(tmp_path, "1 qid:5 0:1\n2 qid:3 0:2\n3 qid:5 0:3\n")
    data = read_data(path)
    assert data.queries.tolist() == [5, 3]
    assert data.labels.tolist() == [1, 3, 2]


def test_a_file_in_pieces_is_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    lines = [
        f"{rng.integers(4)} qid:{i // 7} "
        + " ".join(
            f"{j}:{rng.normal():.4f}"
            for j in sorted(rng.choice(40, rng.integers(9), replace=False))
        )
        for i in range(200)
    ]
    path = written(tmp_path, "\n".join(lines) + "\n")
    whole = read_data(path)
    monkeypatch.setattr(libsvm, "_PIECE", 100)
    pieces = read_data(path)
    np.testing.assert_array_equal(pieces.features, whole.features)
    np.testing.assert_array_equal(pieces.labels, whole.labels)
    np.testing.assert_array_equal(pieces.sizes, whole.sizes)
    rows, labels, queries = load_svmlight_file(
        str(path), n_features=whole.features.shape[1], query_id=True, zero_based=True
    )
    np.testing.assert_array_equal(np.nan_to_num(whole.features), rows.toarray().astype(np.float32))
    np.testing.assert_array_equal(whole.labels, labels)
    np.testing.assert_array_equal(np.repeat(whole.queries, whole.sizes), queries)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "holds no candidates", id="empty"),
        pytest.param("# about\n\n", "holds no candidates", id="comments-alone"),
        pytest.param(
            "1 0:1\n", "no query ids .*no file rank.test.query or .group", id="no-queries"
        ),
        pytest.param("1 qid:1 0:1\n1 0:2\n", "some have none", id="some-without-query"),
        pytest.param("1 qid:1 0:1\n1 qid:1 0:x\n", "line 2: expected a label", id="no-number"),
        pytest.param("1 qid:1 0:1\n1 qid:1 0 1\n", "line 2: expected a label", id="no-colon"),
        pytest.param("a qid:1 0:1\n", "line 1: expected a label", id="no-label"),
        pytest.param("1 qid:1 0.5:1\n", "line 1: a feature's number", id="fraction"),
        pytest.param("1 qid:1 0:1\n1 qid:1 -1:1\n", "line 2: a feature's number", id="negative"),
        pytest.param("1 qid:1 99999999999:1\n", "line 1: a feature's number", id="enormous"),
        pytest.param("1 qid:1.5 0:1\n", "line 1: the query id", id="query-that-is-no-number"),
        pytest.param(
            "1 qid:1 0:1\n1 qid:1e18 0:1\n", "line 2: the query id", id="query-with-exponent"
        ),
        pytest.param("1 qid:9223372036854775808 0:1\n", "line 1: the query id", id="query-beyond"),
        pytest.param("1 0:5 qid:3\n", "line 1: expected a label", id="query-last"),
        pytest.param(
            "1 qid:3 0:1 qid:4\n0 2:3\n", "line 2: expected a label", id="two-queries-and-none"
        ),
        pytest.param(
            "1 qid:3 1:2 3\n0 qid:3 4:5:6\n", "line 1: expected a label", id="numbers-that-add-up"
        ),
        pytest.param(
            "1 qid:3 0:1 :2\n0 qid:3 4 5\n", "line 1: expected a label", id="nameless-value"
        ),
        pytest.param("1 qid:3 0:\n0 qid:3 0:1 2\n", "line 1: expected a label", id="no-value"),
        pytest.param("3 4:5\n6:7 qid:1 8\n", "some have none", id="label-missing"),
        pytest.param("1 qid:1 0:1\n1\n1 qid:1 qid:1\n", "line 2: expected", id="label-alone"),
        pytest.param("1 qid:1 qid:2\n\v\n", "line 2: expected a label", id="odd-space"),
        pytest.param("1 0 :1\n", "line 1: expected a label", id="space-before-a-colon"),
        pytest.param("1 qid:1\n1 qid:2 0:1 3:1 0:2\n", "line 2: .*named twice", id="twice"),
        pytest.param("1 qid:1 0:1e39\n", "line 1: .*beyond float32", id="beyond-float32"),
        pytest.param(
            "1 qid:1 0:inf\n1 qid:1 0:-Infinity 1:1e400\n", "line 2: .*beyond", id="beyond-float64"
        ),
        pytest.param("-1 qid:1 0:1\n", "labels: expected numbers from 0 on", id="negative-label"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        read_data(written(tmp_path, text))


@pytest.mark.parametrize(
    ("beside", "problem"),
    [
        ("1\n1\n", "3 candidates, 2 by the file of query sizes"),
        ("4\n", "3 candidates, 4 by"),
        ("4\n-1\n", "a query of less than 0"),
        ("x\n", "expected the number of each query's candidates"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, beside, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        read_data(written(tmp_path, "1 0:1\n0 0:2\n1 0:3\n", beside))


def test_features_from_one_on_have_no_zero(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"line 1: a feature's number .* from 1 to"):
        read_data(written(tmp_path, "1 qid:1 0:5\n"), first_index=1)


def test_more_features_than_the_model_has_are_refused(tmp_path):
    path = written(tmp_path, "1 qid:1 0:5\n1 qid:1 3:5\n")
    assert read_data(path, num_features=4).features.shape == (2, 4)
    with pytest.raises(InvalidRequestError, match=r"line 2: .* from 0 to 2; is 1 the first"):
        read_data(path, num_features=3)
    assert read_data(written(tmp_path, "1 qid:1 3:5\n"), first_index=1, num_features=3)
