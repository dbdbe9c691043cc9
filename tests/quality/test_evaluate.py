from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from ranker.errors import InvalidRequestError, ModelError
from ranker.export import export_onnx
from ranker.model import Model
from ranker.quality import Columns, RankingData, evaluate, read_data
from ranker.quality.evaluate import _parts
from tests.quality.conftest import FEATURES, matrix


def by_xgboost(booster: xgb.Booster, data: xgb.DMatrix, metrics: list[str]) -> list[float]:
    """What XGBoost itself makes of its own scores."""
    booster.set_param([("nthread", 1), *(("eval_metric", metric) for metric in metrics)])
    found = dict(text.split("-", 1)[1].rsplit(":", 1) for text in booster.eval(data).split()[1:])
    return [float(found[metric]) for metric in metrics]


def test_both_models_get_xgboosts_numbers(books, parquet):
    metrics = ["ndcg@10", "ndcg@3-", "ndcg@100"]
    found = evaluate(books.new, parquet, baseline=books.old, metrics=metrics)
    assert [result.metric for result in found.metrics] == metrics
    for booster, names, which in (
        (books.boosters[1], FEATURES, "model"),
        (books.boosters[0], FEATURES[:2], "baseline"),
    ):
        data = xgb.DMatrix(
            matrix(books.table, names), books.table["label"].to_numpy(), feature_names=names
        )
        data.set_group(np.bincount(books.table["qid"].to_numpy()))
        want = by_xgboost(booster, data, metrics)
        got = [getattr(result, which).value for result in found.metrics]
        assert got == pytest.approx(want, abs=1e-6)


def test_the_real_set_gets_xgboosts_numbers(tmp_path):
    folder = Path(__file__).parents[3] / "shared/data/lambdarank"
    if not folder.exists():
        pytest.skip("the lambdarank data set isn't here")
    train, test = (read_data(folder / name) for name in ("rank.train", "rank.test"))
    matrices = []
    for data in (train, test):
        matrices.append(xgb.DMatrix(data.features, data.labels))
        matrices[-1].set_group(data.sizes)
    settings = {"objective": "rank:ndcg", "max_depth": 4, "nthread": 1}
    booster = xgb.train(settings, matrices[0], 20)
    export_onnx(booster, tmp_path / "letor.onnx")
    metrics = ["ndcg@1", "ndcg@5", "ndcg@10-", "ndcg@100"]
    found = evaluate(tmp_path / "letor.onnx", folder / "rank.test", metrics=metrics)
    want = by_xgboost(booster, matrices[1], metrics)
    assert [result.model.value for result in found.metrics] == pytest.approx(want, abs=1e-6)
    assert (found.queries, found.candidates) == (50, 768)


def test_a_better_model_is_found_to_be_better(books, parquet):
    found = evaluate(books.new, parquet, baseline=books.old, metrics=["ndcg@10", "map"])
    for result in found.metrics:
        change = result.model.value - result.baseline.value
        assert result.difference.value == pytest.approx(change)
        assert 0 < result.difference.low < change < result.difference.high
        assert result.better > result.worse
        assert result.better + result.worse + result.equal == found.queries == 200
    assert found["map"] is found.metrics[1]
    with pytest.raises(KeyError):
        found["mrr"]


def test_a_model_against_itself_differs_nowhere(books, parquet):
    found = evaluate(books.new, parquet, baseline=books.new)
    (result,) = found.metrics
    assert (result.difference.low, result.difference.high) == (0, 0)
    assert (result.better, result.worse, result.equal) == (0, 0, 200)
    assert found.gained == found.lost == ()


def test_gates_of_a_model_against_itself_hold_on_many_queries(books):
    count = 150_000
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, len(FEATURES)))
    labels, queries = rng.integers(0, 4, count), np.repeat(np.arange(count // 3), 3)
    data = RankingData.from_arrays(rows, labels, queries, feature_names=FEATURES)
    metrics = ["ndcg@10", "ndcg@5", "mrr", "map@10", "precision@5"]
    gates = [f"{side} >= baseline" for name in metrics for side in (name, f"low({name})")]
    model = Model.load(books.new)
    found = evaluate(model, data, baseline=model, metrics=metrics, gates=gates, resamples=5)
    assert [gate.gate for gate in found.gates if not gate.passed] == []
    for result in found.metrics:
        difference = result.difference
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_a_model_that_onnxruntime_scores_is_scored_as_by_a_server(tmp_path):
    count = 8200  # more than are scored at once
    rows = np.random.default_rng(2).normal(size=(count, len(FEATURES))).astype(np.float32)
    rows[1::2] = rows[::2]
    settings = {"objective": "binary:logistic", "learning_rate": 0.1, "nthread": 1}
    booster = xgb.train(settings, xgb.DMatrix(rows, rows[:, 0] > rows[:, 1]), 200)
    path = tmp_path / "model.onnx"
    export_onnx(booster, path, output="probability")
    sizes = [8191, 9]
    data = RankingData.from_arrays(rows, rows[:, 2] > 0, np.repeat([0, 1], sizes))
    found = evaluate(path, data).model
    assert found.engine == "onnx"
    served = Model.load(path)
    blocks = np.split(rows, np.cumsum(sizes)[:-1])
    want = np.concatenate([served.score(block) for block in blocks])
    np.testing.assert_array_equal(found.scores, want)


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        pytest.param([3, 4], [(0, 7)], id="one-block"),
        pytest.param([8000, 192, 1], [(0, 8192), (8192, 8193)], id="full"),
        pytest.param([8000, 193, 1], [(0, 8000), (8000, 8194)], id="not-cut"),
        pytest.param([1, 9000, 2], [(0, 1), (1, 9001), (9001, 9003)], id="long-query"),
    ],
)
def test_queries_are_scored_as_a_whole(sizes, parts):
    assert [(part.start, part.stop) for part in _parts(np.array(sizes))] == parts


def test_a_model_alone(books, parquet):
    found = evaluate(books.new, parquet, metrics=["mrr"], movers=3)
    (result,) = found.metrics
    assert result.model.low < result.model.value < result.model.high
    assert result.baseline is result.difference is found.baseline is None
    assert found.gained == found.lost == ()


def test_movers_are_the_queries_that_changed_most(books, parquet):
    found = evaluate(books.new, parquet, baseline=books.old, movers=5)
    change = found.model.values["ndcg@10"] - found.baseline.values["ndcg@10"]
    assert len(found.gained) == len(found.lost) == 5
    assert found.gained[0].model - found.gained[0].baseline == pytest.approx(change.max())
    assert found.lost[0].model - found.lost[0].baseline == pytest.approx(change.min())
    best = found.gained[0]
    query = int(best.query)
    assert best.candidates == np.bincount(books.table["qid"].to_numpy())[query]
    assert best.first_relevant == found.model.first_relevant[query]
    assert best.first_relevant_before == found.baseline.first_relevant[query]


def test_slices_are_evaluations_of_their_queries(books, parquet):
    columns = Columns(slices=("country", "age"))
    found = evaluate(books.new, parquet, baseline=books.old, columns=columns)
    by_country = [part for part in found.slices if part.column == "country"]
    assert {part.value for part in by_country} == {"SE", "FI", "PL"}
    assert sum(part.queries for part in by_country) == found.queries
    assert sum(part.candidates for part in by_country) == found.candidates
    assert len([part for part in found.slices if part.column == "age"]) == 4
    mean = sum(part.result.difference.value * part.queries for part in by_country) / found.queries
    assert mean == pytest.approx(found.metrics[0].difference.value)

    rows = books.table.filter(np.asarray(books.table["country"]) == "FI")
    alone = evaluate(
        books.new,
        RankingData.from_arrays(
            matrix(rows, FEATURES), rows["label"], rows["qid"], feature_names=FEATURES
        ),
        baseline=books.old,
    )
    (finland,) = (part for part in by_country if part.value == "FI")
    assert finland.result.model.value == pytest.approx(alone.metrics[0].model.value)


def test_gates(books, parquet):
    gates = ["ndcg@10 >= baseline + 0.01", "low(mrr) >= baseline", "low(mrr) >= 2"]
    found = evaluate(books.new, parquet, baseline=books.old, gates=gates)
    assert [gate.passed for gate in found.gates] == [True, True, False]
    assert not found.passed
    assert [result.metric for result in found.metrics] == ["ndcg@10", "mrr"]
    mrr = found["mrr"]
    assert found.gates[1].limit == mrr.baseline.value
    assert found.gates[1].value == pytest.approx(mrr.baseline.value + mrr.difference.low)
    assert evaluate(books.new, parquet, gates=["low(mrr) >= 0.1"]).passed


def test_a_gate_with_a_number_for_its_limit_means_the_same_with_a_baseline(books, parquet):
    gates = ["low(mrr) > 0.5"]
    alone = evaluate(books.new, parquet, gates=gates)
    found = evaluate(books.new, parquet, baseline=books.old, gates=gates)
    assert found["mrr"].difference.low != 0
    assert found.gates == alone.gates
    assert found.gates[0].value == found["mrr"].model.low


def test_propensities_weigh_gains(books, parquet):
    columns = Columns(propensity="shown")
    plain = evaluate(books.new, parquet, metrics=["dcg@5"])
    weighted = evaluate(books.new, parquet, metrics=["dcg@5"], columns=columns)
    clipped = evaluate(books.new, parquet, metrics=["dcg@5"], columns=columns, min_propensity=1.0)
    assert weighted.propensities
    assert weighted.metrics[0].model.value > 1.5 * plain.metrics[0].model.value
    assert clipped.metrics[0].model.value == plain.metrics[0].model.value
    with pytest.raises(InvalidRequestError, match="map is no sum over candidates"):
        evaluate(books.new, parquet, metrics=["map"], columns=columns)


def test_weights_of_queries(books):
    table = books.table
    data = RankingData.from_arrays(
        matrix(table, FEATURES),
        table["label"],
        table["qid"],
        feature_names=FEATURES,
        weights=np.asarray(table["qid"]) == 7,
    )
    found = evaluate(books.new, data)
    assert found.metrics[0].model.value == found.model.values["ndcg@10"][7]


def test_features_that_the_data_lacks_are_named(books):
    table = books.table
    data = RankingData.from_arrays(
        matrix(table, FEATURES[:2]), table["label"], table["qid"], feature_names=FEATURES[:2]
    )
    found = evaluate(Model.load(books.new), data, baseline=books.old)
    assert found.model.absent == ("popularity",)
    assert found.baseline.absent == ()


def test_the_same_seed_gives_the_same_document(books, parquet):
    columns = Columns(slices=("country",))
    gates = ["ndcg@10 > baseline"]
    first, again, other = (
        evaluate(books.new, parquet, baseline=books.old, columns=columns, gates=gates, seed=seed)
        for seed in (1, 1, 2)
    )
    text = json.dumps(first.to_json(), allow_nan=False)
    assert text == json.dumps(again.to_json(), allow_nan=False)
    assert text != json.dumps(other.to_json(), allow_nan=False)
    document = json.loads(text)
    assert document["passed"] is True
    assert document["model"]["digest"] == Model.load(books.new).digest
    assert document["metrics"][0]["difference"]["value"] == first.metrics[0].difference.value
    assert len(document["slices"]) == 3


def test_progress_goes_from_begin_to_end(books, parquet):
    told = []
    evaluate(books.new, parquet, baseline=books.old, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"metrics": []}, "metrics: expected one or more"),
        ({"metrics": ["auc"]}, "metric: expected one of"),
        ({"gates": ["ndcg@10 > baseline"]}, "needs a baseline"),
        ({"confidence": 1.0}, "confidence: expected a share"),
        ({"relevant_from": float("nan")}, "relevant_from: expected a number, got NaN"),
        ({"resamples": 0}, "resamples: expected 1 or more"),
        ({"columns": Columns(group="session")}, "no column 'session'"),
    ],
    ids=["metrics", "metric", "gate", "confidence", "relevant-from", "resamples", "column"],
)
def test_what_can_not_be_evaluated_is_refused(books, parquet, options, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        evaluate(books.new, parquet, **options)


def test_a_model_that_is_none_is_refused(parquet):
    with pytest.raises(ModelError, match=r"test\.parquet"):
        evaluate(parquet, parquet)
