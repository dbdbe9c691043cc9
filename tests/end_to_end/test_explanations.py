"""Explanations over the wire: XGBoost's own, of the version that answered, after plain lists."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
import xgboost as xgb
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.client import AsyncRankerClient, RankerClient, Ranking
from ranker.client.request import rank_request
from ranker.errors import ModelError
from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import publish
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import NAMES, RunningServer, on_one_transport
from tests.office.support import ask
from tests.waiting import PATIENCE, wait_until

RANK = "/ranker.v1.RankingService/Rank"
ALONE = [("grpc.use_local_subchannel_pool", 1)]
TOLERANCE = 1e-5
"""Of the scores' range."""

Code = grpc.StatusCode


def contributions(ranking: Ranking) -> np.ndarray:
    """As `pred_contribs` has them."""
    return np.array([[*each.contributions, each.bias] for each in ranking.explanations])


def check(ranking: Ranking, booster: xgb.Booster, rows: np.ndarray, best: int) -> None:
    """Raises AssertionError if these are not XGBoost's scores, and explanations of so many."""
    names = list(NAMES)
    margins = booster.predict(xgb.DMatrix(rows, feature_names=names), output_margin=True)
    np.testing.assert_array_equal(ranking.scores, margins[ranking.indices])
    first = ranking.indices[:best]
    expected = booster.predict(xgb.DMatrix(rows[first], feature_names=names), pred_contribs=True)
    found = contributions(ranking)[:best]
    limit = TOLERANCE * np.ptp(margins)
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)
    np.testing.assert_allclose(found.sum(axis=1), margins[first], rtol=0, atol=limit)
    assert {each.feature_names for each in ranking.explanations} == {NAMES}


def same_but_for_explanations(one: Ranking, other: Ranking) -> bool:
    return (
        one.indices.tobytes() == other.indices.tobytes()
        and one.scores.tobytes() == other.scores.tobytes()
    )


@pytest.mark.parametrize(
    ("explain", "top_k", "explained"), [(1, 0, 1), (10, 0, 10), (500, 0, 200), (9, 3, 3)]
)
def test_the_best_are_explained_as_by_xgboost(client, truth, explain, top_k, explained):
    rows = truth.rows[:200]
    plain = client.rank(rows, top_k=top_k)
    ranking = client.rank(rows, top_k=top_k, explain=explain)
    assert same_but_for_explanations(ranking, plain)
    assert len(ranking.explanations) == explained
    check(ranking, truth.booster, rows, explained)
    assert plain.explanations == ()


def test_named_columns_and_context_are_explained(client, truth):
    rows = truth.rows[:20].copy()
    rows[:, 3] = 0.5
    names = list(NAMES)
    others = [i for i in range(len(names)) if i != 3]
    ranking = client.rank(
        rows[:, others],
        feature_names=[names[i] for i in others],
        context={names[3]: 0.5},
        explain=20,
    )
    check(ranking, truth.booster, rows, 20)


def test_streams_of_both_clients_bring_explanations(server, truth):
    lists = [truth.rows[10 * i : 10 * i + 10] for i in range(30)]

    async def submit_all() -> list[Ranking]:
        async with (
            AsyncRankerClient(server.address, timeout=PATIENCE) as client,
            client.stream() as stream,
        ):
            work = (
                stream.submit(rows, explain=i % 3, timeout=PATIENCE) for i, rows in enumerate(lists)
            )
            return await asyncio.gather(*work)

    with RankerClient(server.address, timeout=PATIENCE) as client, client.stream() as stream:
        futures = [
            stream.submit(rows, explain=i % 3, timeout=PATIENCE) for i, rows in enumerate(lists)
        ]
        found = [future.result(PATIENCE) for future in futures]
    for rankings in (found, asyncio.run(submit_all())):
        for i, ranking in enumerate(rankings):
            assert len(ranking.explanations) == i % 3
            if i % 3:
                check(ranking, truth.booster, lists[i], i % 3)


def test_in_json_and_on_the_command_line(server, truth, tmp_path):
    rows = np.nan_to_num(truth.rows[:5])
    asked = {"candidates": rows.tolist(), "explain": 2}
    found = ask(server.http_port, "/v1/models/books:rank", asked).json
    explained = [
        [each["contributions"][name] for name in NAMES] + [each["bias"]]
        for each in found["explanations"]
    ]
    matrix = xgb.DMatrix(rows, feature_names=list(NAMES))
    expected = truth.booster.predict(matrix, pred_contribs=True)[found["indices"][:2]]
    np.testing.assert_allclose(explained, expected, atol=1e-5)
    np.save(tmp_path / "rows.npy", rows)
    arguments = ["rank", str(tmp_path / "rows.npy"), "--server", server.address, "--explain", "1"]
    told = CliRunner().invoke(cli, arguments).stdout.splitlines()
    strongest = int(np.argmax(np.abs(expected[0][:-1])))
    assert told[2].split() == [
        f"{expected[0][strongest]:+.4f}",
        NAMES[strongest],
        "=",
        f"{rows[found['indices'][0]][strongest]:g}",
    ]


class Shop:
    """Models and a configuration: versions 7 and 8 of `books`, each with half of the traffic;
    `deep`, whose explanations take long; and `bare`, which can't be explained.

    Attributes:
        config: the configuration's path.
        rows: to rank.
        boosters: by model and version.
    """

    def __init__(self, folder: Path) -> None:
        self.config = folder / "ranker.yaml"
        dice = np.random.default_rng(17)
        self.rows = dice.normal(size=(500, len(NAMES))).astype(np.float32)
        rows = dice.normal(size=(4000, len(NAMES))).astype(np.float32)
        train = xgb.DMatrix(rows, dice.normal(size=len(rows)), feature_names=list(NAMES))
        self.boosters: dict[tuple[str, str], xgb.Booster] = {}
        for name, version, depth, trees in (
            ("books", "7", 4, 20),
            ("books", "8", 4, 20),
            ("deep", "1", 12, 40),
            ("deep", "2", 4, 20),
        ):
            settings = {"max_depth": depth, "subsample": 0.7, "seed": int(version), "nthread": 1}
            booster = self.boosters[name, version] = xgb.train(settings, train, trees)
            export_onnx(booster, folder / f"{name}-{version}.onnx", name=name, version=version)
            if name == "books":
                file = ModelFile.read(folder / f"{name}-{version}.onnx")
                publish(file, str(folder / "books"), progress=str)
        bare = onnx.load(folder / "books-7.onnx")
        del bare.training_info[:]
        onnx.save(bare, folder / "bare.onnx")
        self.write("1")

    def write(self, deep: str) -> None:
        """Replaces the configuration at once."""
        new = self.config.with_suffix(".new")
        new.write_text(
            "models: {books: {source: books, labels: {stable: 7, canary: 8}, "
            "traffic: {stable: 50, canary: 50}, salt: s}, "
            f"deep: {{source: deep-{deep}.onnx}}, bare: {{source: bare.onnx}}}}"
        )
        new.rename(self.config)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def shop_server(shop, transport, tmp_path_factory) -> Iterator[RunningServer]:
    shop.write("1")
    log = tmp_path_factory.mktemp("explaining") / "server.log"
    server = RunningServer(log, "--config", str(shop.config), "--transport", transport)
    yield server
    assert server.stop() == 0, log.read_text()


def test_the_version_that_answered_is_explained(shop, shop_server):
    chosen = Counter()
    with RankerClient(shop_server.address, timeout=PATIENCE) as client:
        for i in range(12):
            ranking = client.rank(shop.rows[:30], explain=3, unit=f"reader-{i}", model="books")
            check(ranking, shop.boosters["books", ranking.version], shop.rows[:30], 3)
            chosen[ranking.arm] += 1
        for label, version in {"@canary": "8", "@stable": "7"}.items():
            ranking = client.rank(shop.rows[:30], explain=3, model="books", model_version=label)
            assert ranking.version == version
            check(ranking, shop.boosters["books", version], shop.rows[:30], 3)
    assert chosen.keys() == {"stable", "canary"}


def test_a_model_without_covers_says_what_helps_and_ranks(shop, shop_server):
    with RankerClient(shop_server.address, timeout=PATIENCE) as client:
        assert client.get_model("books").explainable
        assert not client.get_model("bare").explainable
        with pytest.raises(ModelError, match=r"bare: .*no node covers.*`ranker export`") as caught:
            client.rank(shop.rows[:5], explain=1, model="bare")
        assert caught.value.code == Code.FAILED_PRECONDITION.value[0]
        with client.stream() as stream, pytest.raises(ModelError, match="no node covers"):
            stream.submit(shop.rows[:5], explain=1, model="bare").result(PATIENCE)
        assert len(client.rank(shop.rows[:5], model="bare").indices) == 5


class Flood:
    """Many lists at once, each to be explained in full by the deep model."""

    def __init__(self, channel: grpc.Channel, shop: Shop, lists: int, timeout: float) -> None:
        request = rank_request(shop.rows, model="deep", explain=500)
        rank = channel.unary_unary(RANK)
        self.calls = [rank.future(request, timeout=timeout) for _ in range(lists)]

    def codes(self) -> Counter:
        return Counter(call.code() for call in self.calls)


def waiting(server: RunningServer) -> float:
    return server.metric("ranker_explanation_rows")


def explained(server: RunningServer) -> float:
    return server.metric("ranker_candidates_explained_total")


def test_explanations_do_not_delay_plain_lists(shop, shop_server):
    plain = rank_request(shop.rows[:10], model="books")
    with (
        grpc.insecure_channel(shop_server.address, ALONE) as greedy,
        grpc.insecure_channel(shop_server.address, ALONE) as other,
    ):
        rank = other.unary_unary(RANK)

        def left_of_a_flood() -> int:
            """How many of its lists still wait when plain ones have been answered."""
            flood = Flood(greedy, shop, 60, timeout=PATIENCE)
            wait_until(lambda: waiting(shop_server) >= 5000 or flood.calls[-1].done())
            for _ in range(100):
                found = pb.RankResponse.FromString(rank(plain, timeout=PATIENCE))
                assert len(found.indices) == 10
            left = sum(not call.done() for call in flood.calls)
            for call in flood.calls:  # nobody wants them any more
                call.cancel()
            wait_until(lambda: waiting(shop_server) == 0)
            return left

        # One that was over before the plain lists, as this process stood still, proves nothing.
        assert any(left_of_a_flood() > 0 for _ in range(5))
    assert shop_server.metric("ranker_requests_expired_total", reason="cancelled") > 0


def test_a_deadline_is_kept_while_a_list_waits(shop, shop_server):
    with grpc.insecure_channel(shop_server.address, ALONE) as channel:
        flood = Flood(channel, shop, 40, timeout=0.5)
        assert flood.codes().keys() <= {Code.OK, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
        wait_until(lambda: waiting(shop_server) == 0)


@on_one_transport
def test_lists_keep_their_version_when_models_change_and_a_drain_waits(shop, transport, tmp_path):
    shop.write("1")
    options = ("--config", str(shop.config), "--transport", transport)
    server = RunningServer(tmp_path / "server.log", *options)
    try:
        with (
            grpc.insecure_channel(server.address, ALONE) as channel,
            RankerClient(server.address, timeout=PATIENCE) as client,
        ):
            flood = Flood(channel, shop, 4, timeout=PATIENCE)
            wait_until(lambda: waiting(server) + explained(server) >= 2000)
            shop.write("2")
            wait_until(lambda: client.get_model("deep").version == "2")
            ranking = client.rank(shop.rows, explain=5, model="deep")
            check(ranking, shop.boosters["deep", "2"], shop.rows, 5)
            server.process.send_signal(signal.SIGTERM)
            answers = [pb.RankResponse.FromString(call.result()) for call in flood.calls]
        for ranking in map(Ranking.from_response, answers):
            assert ranking.version == "1"
            assert len(ranking.explanations) == 500
            check(ranking, shop.boosters["deep", "1"], shop.rows, 5)
        assert server.process.wait(30) == 0
        assert "drained" in server.log.read_text()
    finally:
        server.process.kill()
        server.process.wait()
