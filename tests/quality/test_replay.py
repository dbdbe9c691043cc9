from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ranker.errors import InvalidRequestError
from ranker.model import Model
from ranker.quality import evaluate
from ranker.quality.metrics import Metric
from ranker.quality.outcomes import Judged, Outcomes
from ranker.quality.replay import Replay, _Comparison, replay
from ranker.ranking_log.entry import Origin
from ranker.ranking_log.exclusion import Exclusion
from ranker.v1 import ranking_pb2 as pb
from tests.quality.conftest import books
from tests.ranking_log.support import Workers, entry, read, request

__all__ = ["books"]

LISTS, CANDIDATES = 40, 12


@pytest.fixture(scope="module")
def models(books) -> tuple[Model, Model]:
    return Model.load(books.old), Model.load(books.new)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rows = np.random.default_rng(3).normal(size=(LISTS, CANDIDATES, 3)).astype(np.float32)
    rows[np.random.default_rng(4).random(rows.shape) < 0.1] = np.nan
    return rows


def origin(model: Model) -> Origin:
    facts = (model.name, model.version, model.digest, model.engine_name, model.feature_names)
    return Origin(*facts, "", 1.0, False)


def logged(model: Model, rows: np.ndarray, top_k: int = 0, **fields):
    """A list, ranked by the model's booster through its engine."""
    names = [f"b{at}" for at in range(len(rows))]
    asked = request(rows, top_k=top_k, candidate_ids=names, **fields)
    width = len(model.feature_names)
    order, scores = model.rank(rows[:, :width] if not fields.get("feature_names") else rows)
    order, scores = order[: top_k or None], scores[: top_k or None]
    ids = [names[at] for at in order]
    return asked, pb.RankResponse(indices=order, scores=scores, candidate_ids=ids)


def written(tmp_path, model: Model, pairs, **options):
    workers = Workers(tmp_path, **options)
    workers.write(
        *(
            entry(at=at, origin=origin(model), asked=asked, answered=answered)
            for at, (asked, answered) in enumerate(pairs)
        )
    )
    return read(tmp_path)


@pytest.fixture
def log(tmp_path, models, rows):
    """Lists that the old model ranked, of all features that the new one has, too."""
    old, _ = models
    width = len(old.feature_names)
    pairs = []
    for at, block in enumerate(rows):
        asked, answered = logged(old, block[:, :width], top_k=5 * (at % 2), request_id=f"r{at}")
        pairs.append((asked, answered))
    return written(tmp_path, old, pairs)


def test_the_same_model_gives_the_answers_to_the_bit(log, models):
    found = replay(iter(log), models[0])
    assert (found.same, found.different, found.compared) == (LISTS, 0, 0)
    assert (found.lists, found.candidates) == (LISTS, LISTS * CANDIDATES)


def test_xgboost_agrees_with_what_is_taken_for_the_answer(log, books, rows):
    import xgboost as xgb

    names = books.boosters[0].feature_names
    for each, block in zip(log, rows, strict=True):
        matrix = xgb.DMatrix(block[:, : len(names)], feature_names=names)
        scores = books.boosters[0].predict(matrix, output_margin=True)
        order = np.argsort(-scores, kind="stable")[: each.request.top_k or None]
        assert list(each.response.indices) == order.tolist()
        assert np.array(each.response.scores, "<f4").tobytes() == scores[order].tobytes()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda a: a.scores.__setitem__(2, np.nextafter(np.float32(a.scores[2]), 9)), id="ulp"
        ),
        pytest.param(lambda a: a.indices.reverse(), id="order"),
        pytest.param(lambda a: a.candidate_ids.__setitem__(0, "other"), id="id"),
        pytest.param(lambda a: a.indices.pop(), id="length"),
    ],
)
def test_an_answer_that_differs_is_found_and_named(tmp_path, models, rows, change):
    pairs = [logged(models[1], block, request_id=f"r{at}") for at, block in enumerate(rows[:5])]
    change(pairs[3][1])
    found = replay(iter(written(tmp_path, models[1], pairs)), models[1])
    assert (found.same, found.different) == (4, 1)
    assert found.first_different.startswith("request 'r3', answered at ")


def test_lists_without_some_features_are_not_held_against_their_answers(tmp_path, models, rows):
    pairs = [logged(models[1], block) for block in rows[:4]]
    log = written(tmp_path, models[1], pairs, exclusion=Exclusion(["popularity"]))
    found = replay(iter(log), models[1])
    assert (found.excluded, found.same, found.different, found.lists) == (4, 0, 0, 0)


def test_another_model_is_compared_by_names_whatever_their_order(tmp_path, models, rows):
    old, new = models
    names = ["popularity", *new.feature_names[:2]]
    pairs, taus = [], []
    for block in rows:
        sent = block[:, [2, 0, 1]]
        asked, answered = logged(old, block[:, :2])
        matrix = pb.Matrix(rows=len(sent), columns=2, data=sent[:, 1:].tobytes())
        asked.candidates.CopyFrom(matrix)
        asked.feature_names[:] = names[1:]
        asked.context.feature_names.append("popularity")
        asked.context.values.append(0.5)
        pairs.append((asked, answered))
        with_context = np.column_stack([block[:, :2], np.full(len(block), 0.5, np.float32)])
        scores, before = new.score(with_context), old.score(block[:, :2])
        taus.append(brute_tau(before, scores))
    found = replay(iter(written(tmp_path, old, pairs)), new, k=3, movers=2)
    assert found.compared == LISTS
    assert found.tau == pytest.approx(np.mean(taus))
    assert found.absent == ()
    assert [each.tau for each in found.moved] == pytest.approx(sorted(taus)[:2])
    assert 0 < found.overlap < 1
    assert 0 < found.first_kept < 1


def brute_tau(one: np.ndarray, other: np.ndarray) -> float:
    signs = [
        np.sign(np.subtract.outer(each, each))[np.triu_indices(len(each), 1)]
        for each in (one, other)
    ]
    first, second = signs
    return (first * second).sum() / math.sqrt((first**2).sum() * (second**2).sum())


def test_features_that_the_log_lacks_are_told(log, models):
    found = replay(iter(log), models[1])
    assert found.absent == ("popularity",)
    assert found.compared == LISTS


def test_features_that_were_left_out_are_told_of_lists_of_another_model(tmp_path, models, rows):
    old, new = models
    pairs = [logged(old, block[:, :2]) for block in rows[:4]]
    left_out = old.feature_names[0]
    log = written(tmp_path, old, pairs, exclusion=Exclusion([left_out]))
    assert set(replay(iter(log), new).absent) == {left_out, "popularity"}


def test_columns_without_names_are_not_guessed(tmp_path, models, rows):
    asked, answered = logged(models[0], rows[0][:, :2])
    nameless = replace(origin(models[0]), digest="cd" * 32, feature_names=())
    Workers(tmp_path).write(entry(origin=nameless, asked=asked, answered=answered))
    with pytest.raises(InvalidRequestError, match="2 columns can't be matched with the model's 3"):
        replay(iter(read(tmp_path)), models[1])


@pytest.mark.parametrize("by", ["candidate_id", "index"])
def test_metrics_are_those_of_the_candidates_that_were_shown(tmp_path, log, models, by):
    path = tmp_path / "clicks.csv"
    labels = {}
    lines = [f"request_id,{by},label"]
    for at in range(0, LISTS, 2):  # of every other list, those that show all candidates
        clicked = at % CANDIDATES
        name = f"b{clicked}" if by == "candidate_id" else clicked
        labels[f"r{at}"] = clicked
        lines.append(f"r{at},{name},1")
    path.write_text("\n".join(lines))
    outcomes = Outcomes.read(path)
    found = replay(iter(log), models[1], outcomes=outcomes, metrics=["mrr", "ndcg@3"])
    assert found.joined == LISTS // 2
    shown, now = [], []
    for each in log[::2]:
        clicked = labels[each.request.request_id]
        matrix = np.frombuffer(each.request.candidates.data, "<f4").reshape(CANDIDATES, 2)
        scores = models[1].score(np.column_stack([matrix, np.full(CANDIDATES, np.nan, "<f4")]))
        before = list(each.response.indices)
        order = sorted(before, key=lambda candidate: (-scores[candidate], before.index(candidate)))
        shown.append(1 / (before.index(clicked) + 1))
        now.append(1 / (order.index(clicked) + 1))
    mrr = found.metrics[0]
    assert (mrr.metric, found.metrics[1].metric) == ("mrr", "ndcg@3")
    assert mrr.baseline.value == pytest.approx(np.mean(shown))
    assert mrr.model.value == pytest.approx(np.mean(now))
    assert mrr.difference.low <= mrr.difference.value <= mrr.difference.high
    assert mrr.better + mrr.worse + mrr.equal == LISTS // 2


def test_lists_count_as_often_as_they_stand_for_others_as_in_evaluate(tmp_path, models, rows):
    old, new = models
    folder, clicks = tmp_path / "log", tmp_path / "clicks.csv"
    entries, lines = [], ["request_id,index,label"]
    for at, block in enumerate(rows):
        asked, answered = logged(old, block[:, : len(old.feature_names)], request_id=f"r{at}")
        drawn = replace(origin(old), sample_rate=(1.0, 0.1)[at % 2])
        entries.append(entry(at=at, origin=drawn, asked=asked, answered=answered))
        lines.append(f"r{at},{answered.indices[at % 2]},1")
    Workers(folder).write(*entries)
    clicks.write_text("\n".join(lines))
    (found,) = replay(iter(read(folder)), new, outcomes=Outcomes.read(clicks)).metrics
    (want,) = evaluate(new, folder, baseline=old, outcomes=clicks).metrics
    assert found.baseline.value == pytest.approx((1.0 + 10 / np.log2(3)) / 11)
    assert found == want


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("request_id,label\nr,1\n", "expected the columns"),
        ("request_id,index,label\nr,0,1\nr,1,many\n", "line 3.*from 0 on, got 'many'"),
        ("request_id,index,label\nr,0,-1\n", "line 2"),
        ("request_id,index,label\nr,0,1\nr,3.0,1\n", "line 3.*whole number from 0 on, got '3.0'"),
        ("request_id,index,label\nr,01,1\n", "line 2.*got '01'"),
        ("request_id,index,label\nr,0,1\n,0,1\n", "line 3: expected a request_id, got none"),
        ("request_id,index,label\n\udce9,0,1\n", "expected UTF-8"),
        ('request_id,index,label\n"r,0,1\n', "not comma-separated"),
        ("", "got none"),
    ],
    ids=[
        "columns",
        "text",
        "negative",
        "fraction",
        "zeros",
        "nameless",
        "latin-1",
        "quote",
        "empty",
    ],
)
def test_outcomes_that_are_none_are_refused(tmp_path, text, words):
    path = tmp_path / "clicks.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InvalidRequestError, match=words):
        Outcomes.read(path)


def test_outcomes_of_a_spreadsheet_begin_with_a_mark(tmp_path, log):
    path = tmp_path / "clicks.csv"
    name = log[0].request.request_id
    path.write_text(f"request_id,index,label\n{name},1,2\n", encoding="utf-8-sig")
    found = Outcomes.read(path).of(log[0])
    labels = dict(zip(log[0].response.indices, found.labels, strict=True))
    assert labels[1] == 2


def test_outcomes_that_match_nothing_are_an_error_also_if_the_log_is_the_models_own(
    tmp_path, log, models
):
    path = tmp_path / "clicks.csv"
    path.write_text("request_id,candidate_id,label\nr-0,b1,1\nr0,c1,1\n")
    words = (
        "clicks.csv: none of its 2 outcomes is of a candidate that was shown in the 40 lists of "
        "the log; its first request_id is 'r-0', the log's is 'r0'"
    )
    for model in models:
        with pytest.raises(InvalidRequestError, match=words):
            replay(iter(log), model, outcomes=Outcomes.read(path))


def test_json_has_no_nan(log, models):
    import json

    json.dumps(replay(iter(log), models[0]).to_json(), allow_nan=False)


def of_two(log, order: list[int], labels: list[float], now: list[float], k: int) -> Replay:
    """What is said of one list that was shown in an order, and whose model has other scores now."""
    [record] = list(log)[:1]
    answer = pb.RankResponse(indices=order, scores=[-float(at) for at in range(len(order))])
    shown = replace(record, record=type(record.record)())
    shown.record.MergeFrom(record.record)
    shown.record.response = answer.SerializeToString()
    judged = Judged(np.float32(labels), np.ones(len(labels)))
    comparison = _Comparison(k, 5)
    comparison.add(shown, np.float32(now), judged)
    found = Replay("books@2", "simd", k=2)
    comparison.into(found, [Metric.parse("precision@1"), Metric.parse("mrr")])
    return found


def test_candidates_that_the_model_ties_are_in_the_requests_order(log):
    """And not in the order that the old model showed, which is what it is compared with."""
    order, labels = [3, 1, 0, 2], [1.0, 0.0, 0.0, 0.0]  # the one that was shown first was right
    found = of_two(log, order, labels, [0.0] * 4, 2)
    assert [each.baseline.value for each in found.metrics] == [1.0, 1.0]
    assert [each.model.value for each in found.metrics] == [0.0, 0.25]
    assert found.overlap == 0.5  # 0 and 1 of 3 and 1


def test_lists_without_a_tau_hide_no_list_that_changed(log):
    comparison = _Comparison(10, 3)
    for at, each in enumerate(log):
        count = len(each.response.indices)
        scores = np.zeros(CANDIDATES, np.float32)  # of which there is no tau
        if at in (5, 20, 30):
            scores[list(each.response.indices)] = np.arange(count)  # the reverse
        comparison.add(each, scores, None)
    found = Replay("books@2", "simd", k=2)
    comparison.into(found, [])
    assert [each.tau < -0.9 for each in found.moved] == [True] * 3
