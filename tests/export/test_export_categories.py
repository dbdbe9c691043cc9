"""The categories in an exported file: XGBoost's own, or the caller's, never a guess."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import polars as pl
import pytest
import xgboost as xgb
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.errors import InvalidRequestError, ModelError
from ranker.export import export_onnx
from ranker.model import Model

DATA = Path(__file__).parent / "data"
CODES = np.random.default_rng(0).integers(0, 4, 120)
LABEL = (CODES % 3 == 1) + 0.1 * CODES


def train(genre, **params) -> xgb.Booster:
    """A model of a categorical column, which may be codes, and a number."""
    if isinstance(genre, pd.Categorical):
        data = xgb.DMatrix(
            pd.DataFrame({"genre": genre, "price": 1.0 * CODES}), LABEL, enable_categorical=True
        )
    else:
        data = xgb.DMatrix(
            np.column_stack([genre, CODES]),
            LABEL,
            feature_names=["genre", "price"],
            feature_types=["c", "q"],
            enable_categorical=True,
        )
    return xgb.train({"max_depth": 3, **params}, data, 4)


def of(*categories) -> pd.Categorical:
    return pd.Categorical.from_codes(CODES, list(categories))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    "categories",
    [
        pytest.param(("poetry", "crime", "essay", "drama"), id="texts"),
        pytest.param(("a", "", "b b", '\\"{}'), id="odd-texts"),
        pytest.param((7, -3, 2**62, 0), id="integers"),
    ],
)
@pytest.mark.parametrize("params", [{}, {"booster": "dart"}], ids=["gbtree", "dart"])
def test_xgboosts_own_are_kept(path, categories, params):
    booster = train(of(*categories), **params)
    report = export_onnx(booster, path)
    model = Model.load(path)
    assert model.categories["genre"].values == categories
    assert list(model.categories) == ["genre"]
    assert any("(genre 4)" in note for note in report.notes)
    frame = pd.DataFrame({"price": [0.0] * 4, "genre": pd.Categorical(categories)})
    want = booster.predict(xgb.DMatrix(frame[["genre", "price"]], enable_categorical=True))
    np.testing.assert_array_equal(model.score(frame), want)


@pytest.mark.parametrize("version", ["1.7.6", "2.1.4", "3.0.5"])
def test_older_files_hold_none_and_the_export_says_so(path, version):
    report = export_onnx(DATA / f"{version}-frame.ubj", path)
    assert any("of genre the model holds no categories" in note for note in report.notes)
    assert "--categories" in str(report)
    with pytest.raises(InvalidRequestError, match="'genre': expected numbers, got text or categ"):
        Model.load(path).score(pd.DataFrame({"genre": ["a"]}))


def test_categories_that_the_caller_gives(path):
    """The old file was trained on the frame that the new one was: so says make_models.py."""
    export_onnx(DATA / "2.1.4-frame.ubj", path, categories={"genre": list("gfedcba")})
    model = Model.load(path)
    assert model.categories["genre"].values == tuple("gfedcba")
    expected = np.load(DATA / "2.1.4.npz")
    frame = pd.DataFrame(expected["rows"], columns=["price", "recency", "length", "genre"])
    codes = np.nan_to_num(frame.genre, nan=-1).astype(int)
    frame["genre"] = pd.Categorical.from_codes(codes, list("gfedcba"))
    frame["genre"] = frame.genre.cat.reorder_categories(list("abcdefg"))
    np.testing.assert_array_equal(model.score(frame), expected["frame"])


@pytest.mark.parametrize("categories", [["d", "c", "b", "a"], [40, 30, 20, 10]], ids=str)
@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index])
def test_categories_may_come_as_a_list_an_array_or_an_index(path, categories, kind):
    export_onnx(train(CODES), path, categories={"genre": kind(categories)})
    assert Model.load(path).categories["genre"].values == tuple(categories)


def test_codes_need_no_categories(path):
    booster = train(CODES)
    report = export_onnx(booster, path)
    assert any("of genre the model holds no categories" in note for note in report.notes)
    assert Model.load(path).categories == {}


@pytest.mark.parametrize(
    ("categories", "reason"),
    [
        pytest.param({"gendre": ["a"]}, "gendre: the model has no feature", id="no-feature"),
        pytest.param({"price": ["a"]}, "price: the model reads that feature as a number", id="no"),
        pytest.param({"genre": "abcd"}, "genre: expected a list of categories", id="text"),
        pytest.param({"genre": []}, "genre: expected categories .* got none", id="none"),
        pytest.param({"genre": ["a", 1, "c", "d"]}, "genre: .* got int, str", id="mixed"),
        pytest.param({"genre": [0.5, 1.5]}, "genre: .* got float", id="floats"),
        pytest.param({"genre": [True, False]}, "genre: .* got bool", id="bools"),
        pytest.param({"genre": ["a", "b", "a"]}, "genre: a category stands twice", id="twice"),
        pytest.param({"genre": [1, 2, 3, 2**63]}, "genre: a category is beyond 64", id="large"),
        pytest.param({"genre": ["\ud800", "b"]}, "genre: .* UTF-8", id="no-unicode"),
        pytest.param(
            {"genre": ["a", "b"]}, r"genre: 2 categories, and the trees know the code \d", id="few"
        ),
    ],
)
def test_categories_that_cannot_be_are_refused(path, categories, reason):
    with pytest.raises(ModelError, match=f"categories: {reason}"):
        export_onnx(train(CODES, max_cat_to_onehot=100), path, categories=categories)
    assert not path.exists()


def test_categories_that_contradict_the_models_are_refused(path):
    booster = train(of("a", "b", "c", "d"))
    export_onnx(booster, path, categories={"genre": ["a", "b", "c", "d"]})
    with pytest.raises(ModelError, match="genre: the model was trained with others, or in another"):
        export_onnx(booster, path, categories={"genre": ["b", "a", "c", "d"]})


BEYOND_ASCII = [
    pytest.param(("drama", "essay", "poesie", "älter"), id="last"),
    pytest.param(("älter", "drama", "essay", "poesie"), id="first"),
    pytest.param(("éa", "b", "a", "c"), id="between-characters"),
    pytest.param(("日本", "b", "", "é"), id="more"),
]


@pytest.mark.parametrize("categories", BEYOND_ASCII)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_texts_beyond_ascii_are_the_callers_to_give(path, categories, library):
    """XGBoost keeps those of pandas in pieces; what it keeps can't be told from what is right."""
    frame = pd.DataFrame({"genre": of(*categories), "price": 1.0 * CODES})
    if library == "polars":
        genre = pl.Series(list(frame.genre), dtype=pl.Enum(categories))
        frame = pl.DataFrame({"genre": genre, "price": 1.0 * CODES})
    booster = xgb.train({"max_depth": 3}, xgb.DMatrix(frame, LABEL, enable_categorical=True), 4)
    report = export_onnx(booster, path)
    assert any("of genre are not all ASCII" in note for note in report.notes)
    assert Model.load(path).categories == {}

    export_onnx(booster, path, categories={"genre": categories})
    # By codes: by the values in pieces XGBoost mixes up what it was trained on.
    codes = xgb.DMatrix(
        np.column_stack([CODES, CODES]),
        feature_names=["genre", "price"],
        feature_types=booster.feature_types,
        enable_categorical=True,
    )
    want = booster.predict(codes)
    reordered = pd.DataFrame({"genre": of(*categories), "price": 1.0 * CODES})
    reordered["genre"] = reordered.genre.cat.reorder_categories(sorted(categories))
    np.testing.assert_array_equal(Model.load(path).score(reordered), want)

    for wrong in (categories[::-1], [*categories, "x"], [1, 2, 3, 4]):
        with pytest.raises(ModelError, match="trained with others, or in another order"):
            export_onnx(booster, path, categories={"genre": wrong})


def test_many_categories(path):
    """A book id as a category: its place in the file is little more than its letters."""
    categories = [f"book-{i:06d}" for i in range(50_000)]
    codes = np.random.default_rng(0).integers(0, 50_000, 500)
    frame = pd.DataFrame({"book": pd.Categorical.from_codes(codes, categories)})
    data = xgb.DMatrix(frame, codes % 7, enable_categorical=True)
    booster = xgb.train({"max_depth": 2, "max_cat_to_onehot": 1}, data, 2)
    export_onnx(booster, path)
    (kept,) = (p.value for p in onnx.load(path).metadata_props if p.key == "ranker.categories")
    assert len(kept) < 50_000 * (len(categories[0]) + 4)
    want = booster.predict(xgb.DMatrix(frame, enable_categorical=True))
    np.testing.assert_array_equal(Model.load(path).score(frame.iloc[::-1])[::-1], want)


def shell(*arguments):
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def test_the_command_takes_categories_from_a_file(path, tmp_path):
    given = tmp_path / "categories.json"
    given.write_text(json.dumps({"genre": list("gfedcba")}))
    result = shell(DATA / "2.1.4-frame.ubj", "-o", path, "--categories", given)
    assert result.exit_code == 0
    assert "(genre 7)" in result.stdout
    assert Model.load(path).categories["genre"].values == tuple("gfedcba")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "No such file", id="absent"),
        pytest.param("{", "not JSON", id="no-json"),
        pytest.param("[]", "expected lists by the feature's name", id="list"),
        pytest.param('{"genre": "a"}', "expected lists by the feature's name", id="text"),
    ],
)
def test_a_file_of_categories_that_is_none_is_refused(path, tmp_path, content, reason):
    given = tmp_path / "categories.json"
    if content is not None:
        given.write_text(content)
    result = shell(DATA / "2.1.4-frame.ubj", "-o", path, "--categories", given)
    assert result.exit_code == 2
    assert f"{given}: {reason}" in result.stderr
