"""The metrics against XGBoost's own `eval`, scikit-learn's and TREC's."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from ranker.errors import InvalidRequestError
from ranker.quality.metrics import Judgements, Metric, Order


def judged(labels, sizes, **options) -> Judgements:
    return Judgements(np.array(labels, np.float32), np.array(sizes, np.int64), **options)


def values(metric: str, labels, scores, sizes, **options) -> list[float]:
    judgements = judged(labels, sizes, **options)
    order = Order(judgements, np.array(scores, np.float32))
    return order.values(Metric.parse(metric)).tolist()


def by_xgboost(metrics, labels, scores, sizes, weights, **parameters) -> dict[str, float]:
    """XGBoost's own evaluation of these scores: a model without trees, and they the margin."""
    matrix = xgb.DMatrix(np.zeros((len(labels), 1)), np.array(labels, np.float64))
    matrix.set_group(sizes)
    matrix.set_base_margin(np.array(scores, np.float32))
    matrix.set_weight(weights)
    settings = {"objective": "rank:ndcg", "eval_metric": metrics, "nthread": 1, "verbosity": 0}
    found = xgb.train({**settings, **parameters}, matrix, 0).eval(matrix).split()[1:]
    assert len(found) == len(metrics)
    return {metric: float(text.split(":")[-1]) for metric, text in zip(metrics, found, strict=True)}


@st.composite
def rankings(draw: st.DrawFn, highest: int):
    """Labels, scores with ties, sizes and weights of a few queries."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    count = sum(sizes)
    labels = draw(st.lists(st.integers(0, highest), min_size=count, max_size=count))
    scores = draw(st.lists(st.integers(-4, 4), min_size=count, max_size=count))
    weights = draw(st.lists(st.sampled_from([0.5, 1, 3]), min_size=len(sizes), max_size=len(sizes)))
    return labels, [score / 4 for score in scores], sizes, weights


@pytest.mark.parametrize("exponential", [True, False], ids=["exponential", "linear"])
@given(ranking=rankings(4))
def test_ndcg_is_xgboosts(ranking, exponential):
    labels, scores, sizes, weights = ranking
    # XGBoost 3.2 forgets the weight of a query without relevant candidates, in ndcg alone.
    if not judged(labels, sizes).num_relevant.all():
        weights = [1] * len(sizes)
    cut_offs = ["@1", "@3", "@5-", "@12", "@100-"]
    metrics = [f"ndcg{cut_off}" for cut_off in cut_offs]
    want = by_xgboost(metrics, labels, scores, sizes, weights, ndcg_exp_gain=exponential)
    name = "ndcg" if exponential else "ndcg_linear"
    for cut_off in cut_offs:
        got = values(f"{name}{cut_off}", labels, scores, sizes)
        assert np.average(got, weights=weights) == pytest.approx(want[f"ndcg{cut_off}"], abs=1e-6)
    for whole, as_cut in ((name, "ndcg@12"), (f"{name}-", "ndcg@100-")):
        got = values(whole, labels, scores, sizes)
        assert np.average(got, weights=weights) == pytest.approx(want[as_cut], abs=1e-6)


@given(ranking=rankings(1))
def test_map_and_precision_are_xgboosts(ranking):
    labels, scores, sizes, weights = ranking
    metrics = ["map@1", "map@3-", "map@5", "map@100", "map", "pre@1", "pre@3-", "pre@5", "pre"]
    want = by_xgboost(metrics, labels, scores, sizes, weights)
    for metric in metrics:
        got = values(metric, labels, scores, sizes)
        assert np.average(got, weights=weights) == pytest.approx(want[metric], abs=1e-6), metric


@pytest.mark.parametrize(
    ("name", "trecs"),
    [
        pytest.param("ndcg_linear-", "ndcg", id="ndcg"),
        pytest.param("ndcg_linear@5-", "ndcg_cut_5", id="ndcg@5"),
        pytest.param("map-", "map", id="map"),
        pytest.param("mrr", "recip_rank", id="mrr"),
        pytest.param("precision@5", "P_5", id="precision@5"),
        pytest.param("recall@5", "recall_5", id="recall@5"),
    ],
)
def test_the_rest_is_trecs(name, trecs):
    rng = np.random.default_rng(3)
    sizes = rng.integers(5, 30, 40)  # TREC's precision is over k, ours over what is there
    labels = rng.choice([0, 0, 0, 1, 2, 3], sizes.sum())
    labels[: sizes[0]] = 0
    scores = rng.permutation(sizes.sum()).astype(np.float32)
    run, judgements = {}, {}
    begin = 0
    for query, size in enumerate(sizes):
        part = range(begin, begin + size)
        judgements[str(query)] = {str(i): int(labels[i]) for i in part}
        run[str(query)] = {str(i): float(scores[i]) for i in part}
        begin += size
    found = pytrec_eval.RelevanceEvaluator(judgements, {trecs}).evaluate(run)
    want = [found[str(query)][trecs] for query in range(len(sizes))]
    np.testing.assert_allclose(values(name, labels, scores, sizes), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_linear_ndcg_is_scikit_learns(k):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 5, (30, 12))
    scores = rng.permuted(np.tile(np.arange(12.0), (30, 1)), axis=1)
    got = values(f"ndcg_linear@{k}", labels.ravel(), scores.ravel(), [12] * 30)
    want = [ndcg_score([label], [score], k=k) for label, score in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_equal_scores_stand_in_the_datas_order():
    assert values("mrr", [0, 1, 1, 0], [1, 1, 1, 1], [2, 2]) == [0.5, 1.0]


def test_relevant_is_what_is_asked_for():
    labels, scores = [1, 2, 3], [3, 2, 1]
    assert values("mrr", labels, scores, [3]) == [1.0]
    assert values("mrr", labels, scores, [3], relevant_from=2) == [0.5]
    assert values("precision@2", labels, scores, [3], relevant_from=3) == [0.0]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.9])
def test_a_label_that_is_the_threshold_is_relevant(threshold):
    """Though neither is that number exactly."""
    assert values("mrr", [0, threshold], [2, 1], [2], relevant_from=threshold) == [0.5]


def test_queries_without_relevant_candidates():
    for metric in ("ndcg@3", "ndcg_linear", "map"):
        assert values(metric, [0, 0], [1, 2], [2]) == [1.0]
        assert values(metric + "-", [0, 0], [1, 2], [2]) == [0.0]
    for metric in ("dcg", "mrr", "precision@1", "recall@2"):
        assert values(metric, [0, 0], [1, 2], [2]) == [0.0]


def test_a_cut_off_beyond_which_the_first_relevant_is():
    assert values("mrr@2", [0, 0, 1], [3, 2, 1], [3]) == [0.0]
    assert values("mrr@3", [0, 0, 1], [3, 2, 1], [3]) == [pytest.approx(1 / 3)]


def test_gains_are_divided_by_propensities():
    weights = np.array([1.0, 4.0, 1.0])
    options = {"weights": weights}
    dcg = 4 / np.log2(3)
    assert values("dcg_linear", [0, 1, 0], [3, 2, 1], [3], **options) == [pytest.approx(dcg)]
    assert values("ndcg", [0, 1, 0], [3, 2, 1], [3], **options) == [pytest.approx(dcg / 4)]
    # The best order has the rarely seen candidate first.
    got = values("ndcg", [1, 1, 0], [3, 2, 1], [3], **options)
    want = (1 + 4 / np.log2(3)) / (4 + 1 / np.log2(3))
    assert got == [pytest.approx(want)]
    assert values("recall@1", [1, 1, 0], [3, 2, 1], [3], **options) == [pytest.approx(0.2)]
    assert values("precision@2", [1, 1, 0], [3, 2, 1], [3], **options) == [pytest.approx(2.5)]


def test_clicks_weighted_by_propensities_are_right_on_average():
    """What clicks tell, each weighted, is on average what the labels tell."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 20)
    scores = rng.permutation(20)
    propensity = 1 / (1 + np.arange(20) / 4)
    (truth,) = values("dcg_linear@10", labels, scores, [20])
    looked = rng.random((20_000, 20)) < propensity
    clicks = (looked & (labels > 0)).ravel()
    got = values(
        "dcg_linear@10",
        clicks,
        np.tile(scores, 20_000),
        [20] * 20_000,
        weights=np.tile(1 / propensity, 20_000),
    )
    assert np.mean(got) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("metric", ["map", "mrr@10"])
def test_what_is_no_sum_takes_no_propensities(metric):
    with pytest.raises(InvalidRequestError, match=f"{metric} is no sum over candidates"):
        values(metric, [1], [1], [1], weights=np.ones(1))


def test_tied_candidates_are_those_with_another_label():
    def tied(labels, scores, sizes) -> float:
        return Order(judged(labels, sizes), np.array(scores, np.float32)).tied_share()

    assert tied([0, 1, 0, 1], [1, 2, 3, 4], [4]) == 0
    assert tied([0, 0, 1, 0], [1, 1, 1, 4], [4]) == 0.75
    assert tied([1, 1, 1, 0], [1, 1, 1, 4], [4]) == 0
    assert tied([0, 1, 1, 0], [1, 1, 1, 1], [1, 2, 1]) == 0  # within a query only


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ndcg@10", "ndcg@10"),
        (" map ", "map"),
        ("pre@5", "precision@5"),
        ("ndcg_linear@3-", "ndcg_linear@3-"),
        ("map-", "map-"),
    ],
)
def test_names_are_read(text, name):
    assert str(Metric.parse(text)) == name
    assert Metric.parse(name) == Metric.parse(text)


@pytest.mark.parametrize("text", ["", "auc", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg10", "ndcg@1.5"])
def test_other_names_are_refused(text):
    with pytest.raises(InvalidRequestError, match="metric: expected one of ndcg"):
        Metric.parse(text)


@pytest.mark.parametrize("metric", ["ndcg@10", "dcg"])
def test_labels_above_those_of_xgboost_are_refused_where_they_are_exponents(metric):
    assert np.isfinite(values(metric, [31, 0], [1, 2], [2])).all()
    with pytest.raises(InvalidRequestError, match=rf"labels: {metric} .* is 1500: .* at most 31"):
        values(metric, [1500, 0, 0], [1, 2, 3], [2, 1])
    assert values(f"{metric.replace('dcg', 'dcg_linear')}", [1500, 0], [2, 1], [2])[0] >= 1


def test_the_largest_label_is_xgboosts():
    assert by_xgboost(["ndcg"], [31, 0], [2, 1], [2], [1])["ndcg"] == 1
    with pytest.raises(xgb.core.XGBoostError, match="31"):
        by_xgboost(["ndcg"], [32, 0], [2, 1], [2], [1])


def test_of_a_query_without_relevant_candidates_xgboost_forgets_the_weight_in_ndcg_alone():
    """As docs/quality.md says; if it fails, XGBoost has changed."""
    ranking, weights = ([1, 0, 0, 0], [1, 2, 1, 2], [2, 2]), [1, 3]
    found = by_xgboost(["ndcg", "ndcg-", "map"], *ranking, weights)
    for metric, used in (("ndcg", [1, 1]), ("ndcg-", weights), ("map", weights)):
        each = values(metric, *ranking)
        assert found[metric] == pytest.approx(np.dot(each, used) / sum(weights))
