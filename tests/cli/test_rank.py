"""`ranker rank` against a server that orders by the first column."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from ranker.cli.rank import rank
from ranker.errors import InvalidRequestError, NotFoundError, UnavailableError
from ranker.v1 import ranking_pb2 as pb

BOOKS = """\
title,relevance,freshness,author
The Quiet Ferry,0.25,1,Ada Lund
"Salt, Twice",0.75,,B. Moore
Été,0.5,3,
"""


@pytest.fixture
def books(tmp_path):
    path = tmp_path / "books.csv"
    path.write_text(BOOKS, encoding="utf-8")
    return str(path)


@pytest.fixture
def command(fake):
    def command(*arguments):
        result = CliRunner().invoke(rank, ["--server", fake.target, *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return command


def test_table(fake, command, books):
    result = command(books)
    assert result.stdout.splitlines() == [
        "rank   score  title            author",
        "   1  0.7500  Salt, Twice      B. Moore",
        "   2  0.5000  Été",
        "   3  0.2500  The Quiet Ferry  Ada Lund",
    ]
    assert result.stderr.splitlines() == [
        "missing for every candidate: reader_age",
        "fake 7: 3 candidates in 0.00 ms on the server, 0.00 ms of it scoring",
    ]
    request = fake.attempts[0].request
    assert list(request.feature_names) == ["relevance", "freshness"]
    assert (request.model, request.model_version) == ("fake", "7")
    assert request.top_k == 10


@pytest.fixture
def two_versions(fake):
    names = ("relevance", "freshness")
    fake.models = [
        pb.Model(name="fake", version=version, feature_names=names, labels=[label])
        for version, label in {"7": "stable", "8": "canary"}.items()
    ]
    fake.arms = {"reader-1": "canary"}


@pytest.mark.usefixtures("two_versions")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param([], "fake 7: ", id="default"),
        pytest.param(["--unit", "reader-1"], "fake 8 (canary): ", id="unit"),
        pytest.param(["--label", "canary"], "fake 8 (canary): ", id="label"),
        pytest.param(["--model-version", "8"], "fake 8: ", id="version"),
    ],
)
def test_a_unit_or_a_label_chooses_the_version(command, books, arguments, told):
    assert command(books, *arguments).stderr.startswith(told)


@pytest.mark.usefixtures("two_versions")
def test_another_version_than_was_described_is_no_answer(fake, command, books):
    fake.steps.append(lambda _context: fake.arms.clear())
    with pytest.raises(UnavailableError, match="fake@8 was described, then fake@7 ranked"):
        command(books, "--unit", "reader-1")


def test_a_label_and_a_version(command, books):
    result = command(books, "--label", "canary", "--model-version", "8")
    assert result.exit_code == 2
    assert "--model-version or --label, and not both" in result.stderr


def test_top_k_and_context(fake, command, books):
    result = command(books, "--top-k", "1", "--context", "reader_age=41.5")
    assert len(result.stdout.splitlines()) == 2
    assert "missing" not in result.stderr
    request = fake.attempts[0].request
    assert list(request.context.feature_names) == ["reader_age"]
    assert list(request.context.values) == [41.5]


def test_the_command_line_overrides_the_file(fake, command, tmp_path):
    path = tmp_path / "books.json"
    path.write_text('{"context": {"reader_age": 1}, "candidates": [{"relevance": 1}]}')
    command(str(path), "--context", "reader_age=2")
    assert list(fake.attempts[0].request.context.values) == [2]


def test_json(command, books):
    content = json.loads(command(books, "--format", "json", "--top-k", "2").stdout)
    assert content == {
        "model": "fake",
        "version": "7",
        "arm": "",
        "ranking": [
            {
                "rank": 1,
                "index": 1,
                "score": 0.75,
                "labels": {"title": "Salt, Twice", "author": "B. Moore"},
            },
            {"rank": 2, "index": 2, "score": 0.5, "labels": {"title": "Été", "author": ""}},
        ],
        "timing": {"queue_us": 1, "scoring_us": 2, "total_us": 4},
    }


def test_explanations_stand_under_the_best(command, books):
    result = command(books, "--explain", "2", "--context", "reader_age=30")
    assert result.stdout.splitlines() == [
        "rank   score  title            author",
        "   1  0.7500  Salt, Twice      B. Moore",
        "      +0.7500  relevance = 0.75",
        "      +0.0000  the 1 other features",
        "      +0.2500  what any candidate has",
        "   2  0.5000  Été",
        "      +3.0000  freshness = 3",
        "      +0.5000  relevance = 0.5",
        "      +0.2500  what any candidate has",
        "   3  0.2500  The Quiet Ferry  Ada Lund",
    ]


def test_a_category_that_moved_a_candidate_is_told_by_its_value(fake, command, tmp_path):
    fake.models[0].categories.add(feature=0, texts=["essay", "novel"])
    path = tmp_path / "books.csv"
    path.write_text("relevance,freshness\nnovel,\n")
    lines = command(str(path), "--explain", "1").stdout.splitlines()
    assert "      +1.0000  relevance = novel" in lines
    assert "      +0.0000  the 1 other features" in lines


def test_a_model_without_names_is_explained_by_positions(fake, command, tmp_path):
    del fake.models[0].feature_names[:]
    path = tmp_path / "books.npy"
    np.save(path, np.array([[1, 0, -2], [3, 0, 0.5]]))
    lines = command(str(path), "--explain", "1", "--top-k", "1").stdout.splitlines()
    assert lines[2:4] == ["      +3.0000  f0 = 3", "      +0.5000  f2 = 0.5"]
    told = json.loads(command(str(path), "--explain", "1", "--format", "json").stdout)
    assert told["ranking"][0]["explanation"] == {"bias": 0.25, "contributions": [3.0, 0.0, 0.5]}


def test_explanations_in_json(command, books):
    told = json.loads(command(books, "--format", "json", "--explain", "1").stdout)["ranking"]
    assert told[0]["explanation"]["bias"] == 0.25
    assert told[0]["explanation"]["contributions"].keys() == {"relevance", "freshness"}
    assert "explanation" not in told[1]


def test_csv_has_no_place_for_explanations(command, books):
    result = command(books, "--explain", "1", "--format", "csv")
    assert result.exit_code == 2
    assert "table or json" in result.stderr


def test_csv(command, books):
    rows = list(csv.reader(io.StringIO(command(books, "--format", "csv").stdout)))
    assert rows == [
        ["rank", "index", "score", "title", "author"],
        ["1", "1", "0.75", "Salt, Twice", "B. Moore"],
        ["2", "2", "0.5", "Été", ""],
        ["3", "0", "0.25", "The Quiet Ferry", "Ada Lund"],
    ]


def test_npy_has_positions_for_labels(fake, command, tmp_path):
    path = tmp_path / "matrix.npy"
    np.save(path, np.array([[0.1, 2, 3], [0.3, 5, 6]], dtype=np.float32))
    result = command(str(path), "--format", "table")
    assert result.stdout.splitlines() == [
        "rank   score  index",
        "   1  0.3000      1",
        "   2  0.1000      0",
    ]
    assert list(fake.attempts[0].request.feature_names) == []
    content = json.loads(command(str(path), "--format", "json").stdout)
    assert [entry["score"] for entry in content["ranking"]] == [0.3, 0.1]


def test_a_matrix_beside_a_context_is_explained(command, tmp_path):
    """It has the columns that the context has not."""
    path = tmp_path / "matrix.npy"
    np.save(path, np.array([[0.1, 2], [0.3, 5]], dtype=np.float32))
    result = command(str(path), "--context", "freshness=4", "--explain", "1", "--format", "table")
    assert result.exit_code == 0
    assert "+0.3000" in result.stdout


def test_a_misspelt_feature(fake, command, tmp_path):
    path = tmp_path / "books.csv"
    path.write_text("title,relevanse\nx,1\n")
    with pytest.raises(InvalidRequestError, match=r"'relevanse' \(did you mean 'relevance'"):
        command(str(path))
    assert not fake.attempts


@pytest.mark.parametrize("pair", ["age", "age=old"])
def test_a_context_that_is_none(command, books, pair):
    result = command(books, "--context", pair)
    assert result.exit_code == 2
    assert f"expected NAME=NUMBER, got '{pair}'" in result.stderr


def test_a_context_with_one_name_twice(fake, command, books):
    result = command(books, "--context", "reader_age=1", "--context", "reader_age=2")
    assert result.exit_code == 2
    assert "'reader_age' stands twice" in result.stderr
    assert not fake.attempts


@pytest.fixture
def categorical(fake):
    categories = [pb.FeatureCategories(feature=1, texts=["new", "old"])]
    fake.models[0].categories.extend(
        [*categories, pb.FeatureCategories(feature=2, integers=[20, 30])]
    )


@pytest.mark.usefixtures("categorical")
def test_categories_are_sent_as_codes(fake, command, tmp_path):
    path = tmp_path / "books.csv"
    path.write_text("relevance,freshness\n1,old\n2,\n3,new\n")
    command(str(path), "--context", "reader_age=30")
    request = fake.attempts[0].request
    rows = np.frombuffer(request.candidates.data, "<f4").reshape(3, 2)
    np.testing.assert_array_equal(rows, [[1, 1], [2, np.nan], [3, 0]])
    assert list(request.context.values) == [1]


@pytest.mark.usefixtures("categorical")
def test_a_matrix_holds_codes(fake, command, tmp_path):
    path = tmp_path / "matrix.npy"
    np.save(path, np.array([[1, 99, -1], [2, 0, 1.5]], dtype=np.float32))
    command(str(path))
    rows = np.frombuffer(fake.attempts[0].request.candidates.data, "<f4").reshape(2, 3)
    np.testing.assert_array_equal(rows, np.load(path))


@pytest.mark.usefixtures("categorical")
def test_a_context_that_is_no_category(command, books):
    result = command(books, "--id-column", "freshness", "--context", "reader_age=40")
    assert result.exit_code == 2
    assert "reader_age: the model has no category '40'; it has 20, 30" in result.stderr


def test_no_such_model(command, books):
    with pytest.raises(NotFoundError, match="no model 'films'"):
        command(books, "--model", "films")


def test_no_server(fake, command, books):
    fake.stop()
    with pytest.raises(UnavailableError, match=f"can't reach a server at {fake.target}: "):
        command(books, "--timeout", "2")


def test_help_teaches():
    text = CliRunner().invoke(rank, ["--help"]).stdout
    assert "ranker rank books.csv --top-k 10" in text
    for option in ("--server", "--id-column", "--context", "--model", "--timeout", "--format"):
        assert option in text
