"""The training data's histograms in an exported file: as counted by hand, whatever gave them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.errors import ModelError
from ranker.export import export_onnx
from ranker.model import Model

NAMES = ["price", "age", "genre", "unused"]
GENRES = ["crime", "essay", "poetry"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    dice = np.random.default_rng(5)
    rows = pd.DataFrame(dice.normal(size=(2000, 4)).astype(np.float32), columns=NAMES)
    rows.loc[dice.random(2000) < 0.2, "age"] = np.nan
    rows["genre"] = pd.Categorical(dice.choice(GENRES, 2000, p=[0.6, 0.3, 0.1]), GENRES)
    rows["unused"] = np.float32(1)
    return rows


@pytest.fixture(scope="module")
def booster(frame) -> xgb.Booster:
    labels = frame.price + frame.age.fillna(1) + (frame.genre == "essay")
    data = xgb.DMatrix(frame, labels, enable_categorical=True)
    return xgb.train({"max_depth": 4, "seed": 1, "nthread": 1}, data, 30)


def test_trees_of_one_leaf_ask_for_no_feature(frame, tmp_path):
    data = frame[["unused", "price", "age"]]
    params = {"max_depth": 2, "gamma": 3.0, "eta": 1.0, "nthread": 1}
    booster = xgb.train(params, xgb.DMatrix(data, 1.0 * (frame.price > 0)), 20)
    assert any("[" not in text for text in booster.get_dump())
    export_onnx(booster, tmp_path / "m.onnx", reference=frame[["price", "age"]])
    reference = Model.load(tmp_path / "m.onnx").metadata.reference
    read = {data.columns.get_loc(name) for name in booster.get_score()}
    assert set(reference.features) == read
    assert 0 not in read


def test_it_is_what_was_counted(booster, frame, tmp_path):
    export_onnx(booster, tmp_path / "m.onnx", reference=frame)
    model = Model.load(tmp_path / "m.onnx")
    reference = model.metadata.reference
    assert reference.rows == 2000
    assert sorted(reference.features) == [0, 1, 2], "a feature that no split reads has none"
    splits = booster.trees_to_dataframe()
    for column, name in ((0, "price"), (1, "age")):
        cuts = reference.features[column].bins.cuts
        own = splits.Split[splits.Feature == name].to_numpy(np.float32)
        assert set(cuts) <= set(own.tolist())
        assert (cuts[0], cuts[-1]) == (own.min(), own.max())
        values = frame[name].dropna()
        counts, _ = np.histogram(values, [-np.inf, *cuts, np.inf])
        assert reference.features[column].counts == tuple(counts)
        assert reference.features[column].missing == 2000 - len(values)
    genre = reference.features[2]
    assert genre.bins.codes == (0, 1, 2)
    assert genre.counts == (*(int((frame.genre == each).sum()) for each in GENRES), 0)
    scores = booster.predict(xgb.DMatrix(frame, enable_categorical=True), output_margin=True)
    counts, _ = np.histogram(scores, [-np.inf, *reference.scores.bins.cuts, np.inf])
    assert reference.scores.counts == tuple(counts)
    assert len(counts) == 10
    assert min(counts) > 150


def test_frames_arrays_and_tables_say_the_same(booster, frame, tmp_path):
    booster.save_model(tmp_path / "m.ubj")
    codes = frame.assign(genre=frame.genre.cat.codes).to_numpy(np.float32)
    frame.assign(qid=1, label=2).to_parquet(tmp_path / "train.parquet")
    export_onnx(booster, tmp_path / "frame.onnx", reference=frame)
    export_onnx(booster, tmp_path / "array.onnx", reference=codes)
    model, out, table = (str(tmp_path / name) for name in ("m.ubj", "table.onnx", "train.parquet"))
    result = CliRunner().invoke(cli, ["export", model, "-o", out, "--reference", table])
    assert result.exit_code == 0, result.output
    assert "note: 2000 rows of reference, 3 features: " in result.output
    found = [
        Model.load(tmp_path / f"{name}.onnx").metadata.reference
        for name in ("frame", "array", "table")
    ]
    assert found[0] == found[1] == found[2]


def test_a_csv_file_says_the_same_of_categories_that_look_like_numbers(tmp_path):
    dice = np.random.default_rng(1)
    values = ["1", "2", "3", "5"]
    chosen = dice.choice(values, 500)
    frame = pd.DataFrame({"c": pd.Categorical(chosen, values), "x": dice.normal(size=500)})
    data = xgb.DMatrix(frame, frame.x + (chosen == "3"), enable_categorical=True)
    booster = xgb.train({"max_depth": 3, "nthread": 1}, data, 5)
    frame.to_csv(tmp_path / "train.csv", index=False)
    found = []
    for reference in (frame, tmp_path / "train.csv"):
        export_onnx(booster, tmp_path / "m.onnx", reference=reference)
        found.append(Model.load(tmp_path / "m.onnx").metadata.reference)
    assert found[0] == found[1]


def test_a_probability_is_counted_as_it_is_served(tmp_path):
    rows = np.random.default_rng(2).normal(size=(400, 2)).astype(np.float32)
    data = xgb.DMatrix(rows, rows[:, 0] > 0)
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 2}, data, 5)
    export_onnx(booster, tmp_path / "m.onnx", output="probability", reference=rows)
    cuts = Model.load(tmp_path / "m.onnx").metadata.reference.scores.bins.cuts
    assert 0 < cuts[0] < 0.5 < cuts[-1] < 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda frame: frame.drop(columns="age"), "has no column 'age'", id="column"),
        pytest.param(lambda frame: frame.iloc[:0], "expected rows, got none", id="empty"),
        pytest.param(lambda frame: frame.assign(more=1), "no feature 'more'", id="unknown"),
        pytest.param(lambda frame: np.zeros((5, 3), np.float32), "expected shape", id="shape"),  # noqa: ARG005
    ],
)
def test_other_data_is_refused_and_nothing_is_written(booster, frame, tmp_path, change, said):
    with pytest.raises(ModelError, match=f"reference: .*{said}"):
        export_onnx(booster, tmp_path / "m.onnx", reference=change(frame))
    assert not (tmp_path / "m.onnx").exists()


def test_a_feature_that_no_split_reads_may_be_absent(booster, frame, tmp_path):
    export_onnx(booster, tmp_path / "m.onnx", reference=frame.drop(columns="unused"))


def test_a_file_that_is_no_table_is_refused(booster, tmp_path):
    (tmp_path / "train.txt").write_text("1 qid:1 0:1")
    with pytest.raises(ModelError, match=r"train\.txt: expected one of \.csv, \.parquet"):
        export_onnx(booster, tmp_path / "m.onnx", reference=tmp_path / "train.txt")
