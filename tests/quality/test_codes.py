"""Codes in a ranking log are given to no model for which they stand for other categories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.errors import InvalidRequestError
from ranker.export import export_onnx
from ranker.model import Model
from ranker.quality import evaluate
from ranker.quality.replay import replay
from ranker.ranking_log.entry import Origin
from ranker.ranking_log.exclusion import Exclusion
from tests.quality.test_replay import logged, origin
from tests.ranking_log.support import Workers, entry, read

CATEGORIES = {
    "1": ["crime", "essay", "poetry"],
    "2": ["crime", "essay", "poetry"],
    "reordered": ["essay", "crime", "poetry"],
    "grown": ["crime", "drama", "essay", "poetry"],
}
"""Of each version of the model; of 1 in the same order as of 2."""

NAMES = ["genre", "price"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("codes")


@pytest.fixture(scope="module")
def models(folder) -> dict[str, Model]:
    rng = np.random.default_rng(0)
    price = rng.normal(size=400).astype(np.float32)
    genre = rng.choice(CATEGORIES["1"], 400)
    label = (genre == "essay") + 2 * (genre == "poetry")
    found = {}
    for rounds, (version, values) in enumerate(CATEGORIES.items(), 5):
        frame = pd.DataFrame({"genre": pd.Categorical(genre, values), "price": price})
        data = xgb.DMatrix(frame, label, qid=np.arange(400) // 10, enable_categorical=True)
        booster = xgb.train({"objective": "rank:ndcg", "nthread": 1}, data, rounds)
        export_onnx(booster, folder / f"{version}.onnx", name="books", version=version)
        found[version] = Model.load(folder / f"{version}.onnx")
    data = xgb.DMatrix(np.column_stack([genre == "essay", price]), label, feature_names=NAMES)
    booster = xgb.train({"objective": "reg:squarederror", "nthread": 1}, data, 5)
    export_onnx(booster, folder / "codes.onnx", name="books", version="codes")
    return {**found, "codes": Model.load(folder / "codes.onnx")}


def coded(model: Model) -> Origin:
    return replace(origin(model), categories=model.categories)


def written(folder, ranked_by: Model, facts: Origin, **options):
    """Lists of genres by their codes, and the outcomes of the first candidates."""
    entries = []
    for at in range(4):
        rows = np.column_stack([np.arange(6) % 3, np.arange(6) / 6]).astype(np.float32)
        asked, answered = logged(ranked_by, rows, request_id=f"r{at}")
        entries.append(entry(at=at, origin=facts, asked=asked, answered=answered))
    Workers(folder / "log", **options).write(*entries)
    clicks = folder / "clicks.csv"
    clicks.write_text("request_id,index,label\n" + "".join(f"r{at},{at},1\n" for at in range(4)))
    return folder / "log", clicks


@pytest.mark.parametrize("version", ["1", "2"], ids=["the-very-model", "the-same-categories"])
def test_a_model_with_the_same_categories_gets_the_codes(tmp_path, models, version):
    log, clicks = written(tmp_path, models["1"], coded(models["1"]))
    found = replay(iter(read(log)), models[version])
    assert (found.lists, found.unverified_codes) == (4, ())
    found = evaluate(models[version], log, outcomes=clicks, baseline=models["1"])
    assert (found.queries, found.unverified_codes) == (4, ())


@pytest.mark.parametrize("version", ["reordered", "grown"])
def test_a_model_with_other_categories_is_refused(tmp_path, models, version):
    log, clicks = written(tmp_path, models["1"], coded(models["1"]))
    words = (
        rf"'genre': its codes .* for books@{version} than for books@1, which ranked request 'r0'"
    )
    with pytest.raises(InvalidRequestError, match=words):
        replay(iter(read(log)), models[version])
    for model, baseline in ((version, None), (version, "1"), ("1", version)):
        with pytest.raises(InvalidRequestError, match=words):
            evaluate(models[model], log, outcomes=clicks, baseline=baseline and models[baseline])


@pytest.mark.parametrize(
    ("logged_by", "scored_by", "is_told"),
    [
        pytest.param("1", "reordered", False, id="a-log-that-does-not-say"),
        pytest.param("codes", "1", True, id="ranked-by-a-model-without-categories"),
        pytest.param("1", "codes", True, id="scored-by-a-model-without-categories"),
    ],
)
def test_what_can_not_be_told_is_said(tmp_path, models, logged_by, scored_by, is_told):
    ranked_by, model = models[logged_by], models[scored_by]
    log, clicks = written(tmp_path, ranked_by, (coded if is_told else origin)(ranked_by))
    assert replay(iter(read(log)), model).unverified_codes == ("genre",)
    found = evaluate(model, log, outcomes=clicks)
    assert found.unverified_codes == ("genre",)
    assert found.to_json()["data"]["unverified_codes"] == ["genre"]


@pytest.mark.parametrize("command", ["replay", "evaluate"])
def test_what_can_not_be_told_is_said_on_stderr(tmp_path, models, folder, command):
    log, clicks = written(tmp_path, models["1"], origin(models["1"]))
    model = folder / "2.onnx"
    arguments = [log, "--model", model] if command == "replay" else [model, log]
    arguments = [command, *arguments, "--outcomes", clicks]
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "codes may stand for other categories, since the log or a model" in result.stderr
    assert "does not say: genre\n" in result.stderr


def test_codes_that_were_left_out_of_the_log_do_no_harm(tmp_path, models):
    log, _ = written(tmp_path, models["1"], coded(models["1"]), exclusion=Exclusion(["genre"]))
    found = replay(iter(read(log)), models["reordered"])
    assert (found.compared, found.absent, found.unverified_codes) == (4, ("genre",), ())


def test_codes_that_were_not_sent_do_no_harm(tmp_path, models):
    asked, answered = logged(models["1"], np.zeros((3, 2), np.float32))
    asked.feature_names.append("price")
    asked.candidates.columns, asked.candidates.data = 1, b"\0" * 12
    Workers(tmp_path).write(entry(origin=coded(models["1"]), asked=asked, answered=answered))
    found = replay(iter(read(tmp_path)), models["reordered"])
    assert (found.compared, found.absent, found.unverified_codes) == (1, ("genre",), ())
