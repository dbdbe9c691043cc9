"""A version that scores what others have ranked: what metrics say, and what callers notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import xgboost as xgb

from ranker.client import RankerClient
from ranker.client.request import rank_request
from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.model.order import best_first
from ranker.repository.publication import publish
from ranker.repository.traffic import Sample
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import RunningServer
from tests.end_to_end.test_live_models import RANK, Callers
from tests.model.test_agreement import defined_tau_b
from tests.waiting import PATIENCE, wait_until

LABELLED = "models: {{books: {{source: books, labels: {{stable: 7}}{}}}}}"
SHADOW = LABELLED.format(", shadow: {version: 8}")
FEATURES = 8
PAIR = {"model": "books", "version": "7", "shadow_version": "8"}


class Shop:
    """Versions 7, 8 and 9 of a model in a repository, lists, and a configuration.

    Version 9 takes forty times as long as the others.

    Attributes:
        config: the configuration's path.
        lists: of candidates.
        scores: by version, XGBoost's own scores of each list.
    """

    def __init__(self, folder: Path) -> None:
        self.config = folder / "ranker.yaml"
        dice = np.random.default_rng(8)
        rows = dice.normal(size=(600, FEATURES)).astype(np.float32)
        train = xgb.DMatrix(rows, dice.integers(0, 4, len(rows)))
        train.set_group([20] * 30)
        sizes = (1, 2, 5, 10, 40, 100, 300)
        self.lists = [dice.normal(size=(n, FEATURES)).astype(np.float32) for n in sizes]
        self.scores: dict[str, list[np.ndarray]] = {}
        for version, trees in {"7": 1, "8": 1, "9": 40}.items():
            settings = {"objective": "rank:ndcg", "subsample": 0.5, "num_parallel_tree": trees}
            booster = xgb.train({**settings, "seed": int(version), "nthread": 1}, train, 20)
            path = folder / f"{version}.onnx"
            export_onnx(booster, path, name="books", version=version)
            publish(ModelFile.read(path), str(folder / "books"), progress=str)
            self.scores[version] = [
                booster.predict(xgb.DMatrix(each), output_margin=True) for each in self.lists
            ]
        # What `Callers` ask for and check.
        self.request = rank_request(self.lists[5])

    def write(self, text: str) -> None:
        new = self.config.with_name("new.yaml")
        new.write_text(text)
        new.rename(self.config)

    def check(self, response: pb.RankResponse) -> None:
        """Raises AssertionError if it is not an answer of version 7, to the bit."""
        assert response.model_version == "7"
        found = np.empty(len(self.lists[5]), np.float32)
        found[list(response.indices)] = response.scores
        np.testing.assert_array_equal(found, self.scores["7"][5])


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def followed(shop, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """A server of two workers that follows the shop's configuration."""
    shop.write(LABELLED.format(""))
    log = tmp_path_factory.mktemp("followed") / "server.log"
    options = ("--config", str(shop.config), "--transport", transport, "--workers", "2")
    running = RunningServer(log, *options)
    yield running
    assert running.stop() == 0, log.read_text()


def follow(server: RunningServer, shop: Shop, text: str, shares: dict[str, float]) -> None:
    """Has both workers serve a configuration.

    Args:
        shares: the share of the traffic that each version shadows then, in percent.
    """
    shop.write(text)

    def served() -> dict[str, float]:
        return {model.version: model.shadow_percent for model in listed(server)}

    wait_until(lambda: all(served() == shares for _ in range(16)))  # connections


@pytest.fixture
def server(followed, shop) -> RunningServer:
    """The followed server, of which no version is a shadow."""
    follow(followed, shop, LABELLED.format(""), {"7": 0})
    return followed


def counts_from_now(server: RunningServer) -> Callable[..., float]:
    """Tells what is counted of versions 7 and 8 from now on."""
    before = server.scrape()

    def counted(metric: str) -> float:
        name = f"ranker_shadow_{metric}"
        return server.metric(name, **PAIR) - before.total(name, **PAIR)

    return counted


def test_metrics_are_those_of_xgboosts_own_scores_and_answers_the_live_versions(server, shop):
    follow(server, shop, SHADOW, {"7": 0, "8": 100})
    counted, before = counts_from_now(server), server.scrape()
    rounds = 20
    for _ in range(rounds):
        # A connection each time, so that both workers have some.
        with grpc.insecure_channel(
            server.address, [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            rank = channel.unary_unary(RANK)
            for rows, expected in zip(shop.lists, shop.scores["7"], strict=True):
                answer = pb.RankResponse.FromString(rank(rank_request(rows), timeout=PATIENCE))
                found = np.empty(len(rows), np.float32)
                found[list(answer.indices)] = answer.scores
                np.testing.assert_array_equal(found, expected)
                assert (answer.model_version, answer.arm) == ("7", "")
    lists = rounds * len(shop.lists)
    wait_until(lambda: counted("lists_total") == lists)
    overlaps, taus, shifts = [], [], []
    for live, shadow in zip(shop.scores["7"], shop.scores["8"], strict=True):
        best = [set(best_first(each, 10).tolist()) for each in (live, shadow)]
        overlaps.append(len(best[0] & best[1]) / min(10, len(live)))
        if len(live) > 1:
            taus.append(defined_tau_b(live, shadow))
            difference = np.abs(live.astype(np.float64) - shadow)
            shifts.append(difference.mean() / live.std(dtype=np.float64))
    assert min(overlaps) < 1
    for metric, values in (
        ("overlap_ratio", overlaps),
        ("rank_distance", [1 - tau for tau in taus]),
        ("score_shift", shifts),
    ):
        assert counted(f"{metric}_count") == rounds * len(values)
        assert counted(f"{metric}_sum") == pytest.approx(rounds * sum(values))
    assert counted("dropped_total") == 0
    for worker in ("0", "1"):
        busy = "ranker_shadow_busy_seconds_total"
        assert server.metric(busy, worker=worker) > before.total(busy, worker=worker)
    assert server.metric("ranker_requests_total", model="books", version="8") == 0
    assert server.metric("ranker_candidates_scored_total", model="books", version="8") == 0
    with RankerClient(server.address, timeout=PATIENCE) as client:
        listed = {model.version: model for model in client.list_models()}
    assert listed["8"].shadow_percent == 100
    assert (listed["7"].traffic_percent, listed["8"].traffic_percent) == (100, 0)


def test_a_share_is_the_same_units_everywhere(server, shop):
    text = LABELLED.format(", salt: s, shadow: {version: 8, share: 0.3}")
    follow(server, shop, text, {"7": 0, "8": 30})
    counted = counts_from_now(server)
    sample = Sample.of_shadow(0.3, "s")
    units = [f"reader-{i}" for i in range(100)]
    with RankerClient(server.address, timeout=PATIENCE) as client:
        for unit in units:
            assert client.rank(shop.lists[2], unit=unit).version == "7"
    expected = sum(map(sample.has, units))
    assert 10 < expected < 60
    wait_until(lambda: counted("lists_total") >= expected)
    assert counted("lists_total") == expected


def test_another_generation_stops_it(server, shop):
    follow(server, shop, SHADOW, {"7": 0, "8": 100})
    counted = counts_from_now(server)
    generation = server.metric("ranker_model_generation")
    with Callers(server, shop, 2) as callers:
        wait_until(lambda: counted("lists_total") > 10)
        follow(server, shop, LABELLED.format(""), {"7": 0})
        assert server.metric("ranker_model_generation") == generation + 1
        before, asked = counted("lists_total"), len(callers.answers)
        wait_until(lambda: len(callers.answers) > asked + 100)
        assert counted("lists_total") == before
        shop.write(SHADOW)
        wait_until(lambda: counted("lists_total") > before)
    assert callers.failures == []


def test_what_there_is_no_time_for_is_dropped_and_nobody_is_refused(shop, transport, tmp_path):
    shop.write(LABELLED.format(", shadow: {version: 9}"))
    rows = np.resize(shop.lists[6], (2000, FEATURES))
    request, waves, lists = rank_request(rows, top_k=1), 8, 16
    options = ("--config", str(shop.config), "--transport", transport, "--max-memory", "100")
    with (
        RunningServer(tmp_path / "server.log", *options) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        rank = channel.unary_unary(RANK)
        for _ in range(waves):
            calls = [rank.future(request, timeout=PATIENCE) for _ in range(lists)]
            assert {call.code() for call in calls} == {grpc.StatusCode.OK}
        scored, dropped = (
            lambda metric=metric: server.metric(f"ranker_shadow_{metric}", shadow_version="9")
            for metric in ("lists_total", "dropped_total")
        )
        wait_until(lambda: scored() + dropped() == waves * lists)
        assert scored() > 0
        assert dropped() == server.metric("ranker_shadow_dropped_total", reason="busy") > 0
        assert server.metric("ranker_requests_shed_total") == 0


def listed(server: RunningServer) -> tuple[pb.Model, ...]:
    with RankerClient(server.address, timeout=PATIENCE) as client:
        return client.list_models()
