"""Evaluations on a ranking log with outcomes are those on the table that it is converted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from pyarrow import csv, parquet

from ranker.errors import InvalidRequestError
from ranker.export import export_onnx
from ranker.model import Model
from ranker.quality import Columns, evaluate
from ranker.quality.log_table import write_parquet
from ranker.ranking_log.reader import open_log
from ranker.v1 import ranking_pb2 as pb
from tests.quality.conftest import FEATURES, books
from tests.quality.test_replay import CANDIDATES, LISTS, logged, models, origin, rows
from tests.ranking_log.support import Workers, entry, request

__all__ = ["books", "models", "rows"]

CLICKS = "request_id,candidate_id,label,looked\n"


@pytest.fixture
def log(tmp_path, models, rows):
    """Lists of two models and rates, some of which show five candidates; with a context."""
    entries = []
    for at, block in enumerate(rows):
        model = models[at % 2]
        width = len(model.feature_names)
        asked, answered = logged(model, block[:, :width], top_k=5 * (at % 3), request_id=f"r{at}")
        if at == 1:  # the same list, sent in another way
            asked.context.CopyFrom(pb.Context(feature_names=FEATURES[1:2], values=[0.25]))
            asked.candidates.data = np.ascontiguousarray(block[:, [0, 2]]).tobytes()
            asked.candidates.columns = 2
        facts = replace(origin(model), sample_rate=[0.5, 1.0][at % 2], arm=["a", "b"][at % 2])
        entries.append(entry(at=at, origin=facts, asked=asked, answered=answered))
    Workers(tmp_path / "log").write(*entries)
    return tmp_path / "log"


@pytest.fixture
def clicks(tmp_path):
    """Of every list but the last ten, two candidates of which one at least was not always shown."""
    path = tmp_path / "clicks.csv"
    lines = [f"r{at},b{at % 12},{1 + at % 2},0.5\nr{at},b{at % 7 + 5},1,0.25\n" for at in range(30)]
    path.write_text(CLICKS + "".join(lines))
    return path


def joined(log, clicks, out):
    """What the documented query makes of the converted log, and nothing of this package."""
    with open_log(str(log)) as found:
        write_parquet(found, out)
    table = parquet.read_table(out).to_pandas()
    table = table[table["position"].notna()]
    outcomes = csv.read_csv(clicks).to_pandas()
    table = table[table["request_id"].isin(outcomes["request_id"])]
    table = table.merge(outcomes, how="left", on=["request_id", "candidate_id"])
    table["weight"] = 1 / table["sample_rate"]
    table = table.fillna({"label": 0, "looked": 1.0})
    parquet.write_table(pa.Table.from_pandas(table), out)
    return out


def test_it_is_what_the_table_gives(log, clicks, books, tmp_path):
    metrics = ["dcg@5", "ndcg", "recall@3"]
    ways = {"baseline": books.old, "metrics": metrics, "resamples": 50}
    table = joined(log, clicks, tmp_path / "joined.parquet")
    names = {"propensity": "looked", "slices": ("arm",)}
    columns = Columns(group="request_id", weight="weight", **names)
    expected = evaluate(books.new, table, columns=columns, **ways)
    found = evaluate(books.new, log, outcomes=clicks, columns=Columns(**names), **ways)
    assert found.metrics == expected.metrics
    assert found.slices == expected.slices
    assert found.queries == expected.queries == 30
    assert found.partly_absent == ("popularity",)
    assert "30 of 40 lists have outcomes; " in found.source


@pytest.mark.parametrize("ranked_by", [0, 1], ids=["by-the-baseline", "by-the-model"])
def test_two_models_that_each_lack_a_feature_of_the_other(tmp_path, rows, clicks, ranked_by):
    models = []
    for name in ("a", "b"):
        names = ["completion", name]
        data = xgb.DMatrix(rows[:, :, :2].reshape(-1, 2), feature_names=names)
        data.set_label(np.arange(data.num_row()) % 3)
        data.set_group([CANDIDATES] * LISTS)
        booster = xgb.train({"objective": "rank:ndcg", "max_depth": 2, "nthread": 1}, data, 5)
        export_onnx(booster, tmp_path / f"{name}.onnx", name=name)
        models.append(Model.load(tmp_path / f"{name}.onnx"))
    by = models[ranked_by]
    pairs = [logged(by, block[:, :2], request_id=f"r{at}") for at, block in enumerate(rows[:5])]
    entries = [entry(origin=origin(by), asked=asked, answered=answer) for asked, answer in pairs]
    Workers(tmp_path / "log").write(*entries)
    alone = evaluate(models[1], tmp_path / "log", outcomes=clicks)
    found = evaluate(models[1], tmp_path / "log", outcomes=clicks, baseline=models[0])
    np.testing.assert_array_equal(found.model.scores, alone.model.scores)
    assert (found.baseline if ranked_by else found.model).absent == ("ab"[1 - ranked_by],)


def test_without_propensities_and_names(tmp_path, models, books):
    nameless = replace(origin(models[0]), feature_names=())
    answered = pb.RankResponse(indices=[1, 0])
    asked = request([[1, 2, 3], [4, 5, 6]], request_id="r")
    Workers(tmp_path / "log").write(entry(origin=nameless, asked=asked, answered=answered))
    clicks = tmp_path / "clicks.csv"
    clicks.write_text("request_id,index,label\nr,1,1\n")
    with pytest.raises(InvalidRequestError, match="can't be matched"):
        evaluate(books.old, tmp_path / "log", outcomes=clicks)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (Columns(slices=("country",)), "expected model, version, arm, got 'country'"),
        (Columns(weight="w"), "no column of ids or weights"),
        (Columns(propensity="seen"), "expected the columns .* label, seen; got request_id, "),
    ],
    ids=["slice", "weight", "propensity"],
)
def test_columns_that_there_are_not(log, clicks, books, columns, words):
    with pytest.raises(InvalidRequestError, match=words):
        evaluate(books.new, log, outcomes=clicks, columns=columns)


def test_a_propensity_that_is_none(log, clicks, books):
    clicks.write_text(CLICKS + "r1,b1,1,0\n")
    with pytest.raises(InvalidRequestError, match="line 2: expected a propensity above 0"):
        evaluate(books.new, log, outcomes=clicks, columns=Columns(propensity="looked"))


def test_lists_without_ids_belong_to_no_outcome(tmp_path, books, clicks):
    Workers(tmp_path / "log").write(entry(request_id=""))
    with pytest.raises(InvalidRequestError, match="is 'r0', the log's is none: callers have to"):
        evaluate(books.new, tmp_path / "log", outcomes=clicks)


def test_outcomes_of_another_log_are_an_error(log, clicks, books):
    clicks.write_text(CLICKS + "q1,b1,1,1\n")
    with pytest.raises(InvalidRequestError, match="none of its 1 outcomes is of a candidate"):
        evaluate(books.new, log, outcomes=clicks)
