"""Models that change while the server serves: switch, labels, split, failure, deaths in between."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import xgboost as xgb
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.client import RankerClient
from ranker.client.request import rank_request
from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import publish
from ranker.repository.traffic import Split
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import RunningServer, on_one_transport
from tests.forest.onnx import onnx_models
from tests.forest.onnx.onnx_models import Split as Node
from tests.office.support import ask as ask_http
from tests.waiting import PATIENCE, wait_until

RANK = "/ranker.v1.RankingService/Rank"
GET_MODEL = "/ranker.v1.RankingService/GetModel"
LIST_MODELS = "/ranker.v1.RankingService/ListModels"
VERSIONS = ("7", "8", "9")
STABLE = "models: {{books: {{source: books, versions: {{latest: 3}}, labels: {{stable: {}}}}}}}"


class Shop:
    """A repository of three versions, each one's own scores of some rows, and a configuration."""

    def __init__(self, folder: Path, trees: int = 20) -> None:
        self.folder = folder
        self.config = folder / "ranker.yaml"
        dice = np.random.default_rng(4)
        rows = dice.normal(size=(600, 8)).astype(np.float32)
        train = xgb.DMatrix(rows, dice.integers(0, 4, len(rows)))
        train.set_group([20] * 30)
        self.rows = rows[:20]
        self.request = rank_request(self.rows)
        self.scores: dict[str, np.ndarray] = {}
        for version in VERSIONS:
            settings = {"objective": "rank:ndcg", "subsample": 0.7, "nthread": 1}
            booster = xgb.train({**settings, "seed": int(version)}, train, trees)
            path = folder / f"{version}.onnx"
            export_onnx(booster, path, name="books", version=version)
            publish(ModelFile.read(path), str(folder / "books"), progress=str)
            self.scores[version] = booster.predict(xgb.DMatrix(self.rows), output_margin=True)

    def write(self, text: str) -> None:
        """Replaces the configuration at once, as editors and Kubernetes do."""
        new = self.folder / "new.yaml"
        new.write_text(text)
        new.rename(self.config)

    def check(self, response: pb.RankResponse) -> None:
        """Raises AssertionError if the scores are not, bit for bit, those of the stated version."""
        found = np.empty(len(self.rows), np.float32)
        found[list(response.indices)] = response.scores
        np.testing.assert_array_equal(found, self.scores[response.model_version])


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(published) -> Shop:
    published.write(STABLE.format(7))
    return published


@pytest.fixture
def serve(shop, transport, tmp_path) -> Iterator[Callable[..., RunningServer]]:
    running: list[RunningServer] = []

    def serve(*arguments: str) -> RunningServer:
        options = ("--config", str(shop.config), "--transport", transport, *arguments)
        running.append(RunningServer(tmp_path / f"{len(running)}.log", *options))
        return running[-1]

    yield serve
    for each in running:
        each.kill()


@pytest.fixture(scope="module")
def followed(published, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """A server of two workers that follows the shop's configuration."""
    published.write(STABLE.format(7))
    log = tmp_path_factory.mktemp("followed") / "server.log"
    options = ("--config", str(published.config), "--transport", transport, "--workers", "2")
    running = RunningServer(log, *options)
    yield running
    assert running.stop() == 0, log.read_text()


@pytest.fixture
def server(followed, published) -> RunningServer:
    """The followed server, whose stable version is 7."""
    published.write(STABLE.format(7))
    wait_for_labels(followed, {"7": ["stable"], "8": [], "9": []})
    return followed


class Callers:
    """Threads, each with a connection of its own, that ask until they are told to stop."""

    def __init__(self, server: RunningServer, shop: Shop, number: int = 4) -> None:
        self.answers: list[pb.RankResponse] = []
        self.failures: list[str] = []
        self._shop, self._over = shop, threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(server.address,)) for _ in range(number)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, version: str) -> None:
        """Waits until as many answers in a row are of that version as there are connections."""
        wait_until(
            lambda: {a.model_version for a in self.answers[-8:]} == {version},
            lambda: (version, self.failures),
        )

    def _ask(self, address: str) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            rank = channel.unary_unary(RANK)
            while not self._over.is_set():
                try:
                    answer = pb.RankResponse.FromString(rank(self._shop.request, timeout=PATIENCE))
                    self._shop.check(answer)
                    self.answers.append(answer)
                except (grpc.RpcError, AssertionError) as error:
                    self.failures.append(str(error))
                time.sleep(0.008)


def listed(server: RunningServer) -> pb.ListModelsResponse:
    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, own) as channel:
        return pb.ListModelsResponse.FromString(channel.unary_unary(LIST_MODELS)(b"", timeout=30))


def wait_for_labels(server: RunningServer, labels: dict[str, list[str]]) -> None:
    """Waits until both workers serve these versions with these labels."""

    def served() -> dict[str, list[str]]:
        return {model.version: list(model.labels) for model in listed(server).models}

    wait_until(lambda: all(served() == labels for _ in range(16)))  # connections


def told_of(server: RunningServer, version: str) -> pb.GetModelResponse:
    request = pb.GetModelRequest(model="books", model_version=version).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        return pb.GetModelResponse.FromString(channel.unary_unary(GET_MODEL)(request, timeout=30))


def test_a_changed_file_changes_the_model_and_no_request_fails(server, shop):
    first = server.metric("ranker_model_generation")
    switches = server.metric("ranker_model_switches_total", outcome="ok")
    with Callers(server, shop) as callers:
        callers.wait_for("7")
        for version in ("8", "7", "9"):
            shop.write(STABLE.format(version))
            callers.wait_for(version)
    assert callers.failures == []
    assert server.metric("ranker_model_generation") == first + 3
    assert server.metric("ranker_model_switches_total", outcome="ok") == switches + 3


@on_one_transport
def test_a_link_that_is_changed_as_kubernetes_does_it(server, shop, tmp_path):
    for version in ("7", "8"):
        (tmp_path / version).mkdir()
        text = STABLE.format(version).replace("source: books", f"source: {shop.folder}/books")
        (tmp_path / version / "ranker.yaml").write_text(text)
    data = tmp_path / "..data"
    data.symlink_to("7")
    (tmp_path / "ranker.yaml").symlink_to("..data/ranker.yaml")
    (tmp_path / "link").symlink_to(tmp_path / "ranker.yaml")
    (tmp_path / "link").rename(shop.config)
    with Callers(server, shop) as callers:
        callers.wait_for("7")
        (tmp_path / "..new").symlink_to("8")
        (tmp_path / "..new").rename(data)
        callers.wait_for("8")
    assert callers.failures == []


@on_one_transport
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("models: [", r"ranker\.yaml:1:", id="not-yaml"),
        pytest.param("models: {books: {sauce: books}}", "books.sauce", id="unknown-field"),
        pytest.param("models: {books: {source: nowhere}}", "nowhere", id="no-such-source"),
        pytest.param(STABLE.format(99), "version 99", id="no-such-version"),
        pytest.param(
            "models: {books: {source: broken.onnx}}", "not an ONNX file", id="broken-model"
        ),
    ],
)
def test_what_can_not_be_served_changes_nothing_and_says_so(server, shop, text, reason):
    (shop.folder / "broken.onnx").write_bytes(b"no model")
    failed = server.metric("ranker_model_switches_total", outcome="error")
    begin = len(server.log.read_text())  # of what other tests had it say

    def said() -> list[str]:
        return re.findall(reason, server.log.read_text()[begin:])

    with Callers(server, shop, 1) as callers:
        shop.write(text)
        wait_until(said, reason)
        wait_until(lambda: server.metric("ranker_model_switches_total", outcome="error") > failed)
        wait_until(lambda: re.search(reason, listed(server).failure))
        assert re.search(reason, ask_http(server.http_port, "/v1/models").json["failure"])
        shop.write(STABLE.format(8))
        callers.wait_for("8")
        wait_until(lambda: listed(server).failure == "")
    assert callers.failures == []
    assert {answer.model_version for answer in callers.answers} <= {"7", "8"}
    assert len(said()) <= 2, "said again and again"


@on_one_transport
def test_each_attempt_that_fails_is_counted(server, shop):
    """Else an alert would end while the mistake stands."""

    def failed() -> float:
        return server.metric("ranker_model_switches_total", outcome="error")

    begin = failed()
    shop.write("models: [")
    wait_until(lambda: failed() > begin + 2)


@on_one_transport
def test_labels_split_and_arms(server, shop):
    shop.write(
        "models: {books: {source: books, labels: {stable: 7, canary: 8}, "
        "traffic: {stable: 70, canary: 30}, salt: s}}"
    )
    wait_for_labels(server, {"7": ["stable"], "8": ["canary"]})
    split = Split({"stable": 70, "canary": 30}, "s")

    def arm_requests(version: str) -> float:
        return server.metric("ranker_split_requests_total", model="books", version=version)

    before = {version: arm_requests(version) for version in ("7", "8")}
    with grpc.insecure_channel(server.address) as channel:
        rank = channel.unary_unary(RANK)

        def ask(**fields: str) -> tuple[str, str]:
            message = shop.request + pb.RankRequest(**fields).SerializeToString()
            answer = pb.RankResponse.FromString(rank(message, timeout=PATIENCE))
            shop.check(answer)
            return answer.model_version, answer.arm

        for i in range(100):
            label = split.arm(f"reader-{i}")
            expected = ({"stable": "7", "canary": "8"}[label], label)
            assert ask(unit=f"reader-{i}") == expected
        assert ask(model_version="@canary", unit="x") == ("8", "canary")
        assert ask(model_version="7", unit="x") == ("7", "")
        drawn = Counter(ask()[1] for _ in range(300))
    arm_of_1 = split.arm("reader-1")
    with RankerClient(server.address, timeout=PATIENCE) as client:
        assert client.rank(shop.rows, unit="reader-1").arm == arm_of_1
        assert client.rank(shop.rows, model_version="@canary").version == "8"
        assert {client.get_model().version for _ in range(20)} == {"7"}, "not drawn"
        described = client.get_model(unit="reader-1")
        assert list(described.labels) == [arm_of_1]
    asked = Counter(split.arm(f"reader-{i}") for i in range(100)) + drawn + Counter([arm_of_1])
    for label, version in {"stable": "7", "canary": "8"}.items():
        found = arm_requests(version) - before[version]
        assert found == asked[label], "those that named a version or a label are not among them"
    body = {"candidates": shop.rows.tolist(), "unit": "reader-1"}
    assert ask_http(server.http_port, "/v1/models/books:rank", body).json["arm"] == arm_of_1
    canary = ask_http(server.http_port, "/v1/models/books/labels/canary:rank", body).json
    assert (canary["model_version"], canary["arm"]) == ("8", "canary")
    assert ask_http(server.http_port, "/v1/models/books/labels/no:rank", body).status == 404
    assert ask_http(server.http_port, "/v1/models/books/labels/canary").json["version"] == "8"
    assert 50 < drawn["canary"] < 130
    models = {model.version: model for model in listed(server).models}
    assert {v: list(m.labels) for v, m in models.items()} == {"7": ["stable"], "8": ["canary"]}
    assert {v: m.traffic_percent for v, m in models.items()} == {"7": 70, "8": 30}
    assert all(m.state == pb.MODEL_STATE_AVAILABLE for m in models.values())
    assert models["8"] == told_of(server, "8").model, "but for categories, which it has none of"
    generation = server.metric("ranker_model_generation")
    assert told_of(server, "@canary").generation == listed(server).generation == generation


@on_one_transport
def test_promotion_and_rollback(server, shop):
    shop.write(
        "models: {books: {source: books, labels: {stable: 7, canary: 8}, traffic: {stable: 100}}}"
    )
    wait_for_labels(server, {"7": ["stable"], "8": ["canary"]})
    first = listed(server).generation

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    with Callers(server, shop) as callers:
        callers.wait_for("7")
        run("promote", "books", "canary", "--config", str(shop.config))
        callers.wait_for("8")
        run("rollback", "books", "--config", str(shop.config))
        callers.wait_for("7")
    assert callers.failures == []
    rows = [line.split() for line in run("models", server.address).splitlines()]
    assert rows[1][:6] == ["books", "7", "stable,", "previous", "100", "%"]
    assert rows[-1] == ["generation", str(first + 2)]


@on_one_transport
def test_a_version_that_failed_is_listed_with_the_reason(server, shop):
    node = onnx_models.tree_ensemble([Node(0, "LT", 0.5, 1.0, 2.0, True)])
    wide = onnx_models.model(node, features=1000).SerializeToString()
    (shop.folder / "wide.onnx").write_bytes(wide)
    generation = listed(server).generation
    shop.write(STABLE.format(7).replace("}}}", "}}, films: {source: wide.onnx}}"))
    said = f"generation {generation} goes on being served: films@1: has 1000 features"
    server.wait_for_log(said)
    wait_until(lambda: pb.MODEL_STATE_FAILED in {model.state for model in listed(server).models})
    models = {model.name: model for model in listed(server).models}
    assert models["books"].state == pb.MODEL_STATE_AVAILABLE
    assert models["films"].state == pb.MODEL_STATE_FAILED
    assert "1000 features" in models["films"].state_reason
    assert server.metric("ranker_model_loads_total", model="films", outcome="error") >= 1


@on_one_transport
def test_a_new_version_under_latest_is_served_on_sighup(server, shop, transport):
    growing = f"growing-{transport}"
    shop.write(f"models: {{books: {{source: {growing}}}}}")
    publish(ModelFile.read(shop.folder / "7.onnx"), str(shop.folder / growing), progress=str)
    wait_for_labels(server, {"7": []})
    with Callers(server, shop, 1) as callers:
        callers.wait_for("7")
        publish(ModelFile.read(shop.folder / "8.onnx"), str(shop.folder / growing), progress=str)
        server.signal(signal.SIGHUP)
        callers.wait_for("8")
    assert callers.failures == []


@on_one_transport
def test_processes_that_are_killed_change_nothing(serve, shop):
    server = serve("--workers", "2")
    shop.write(STABLE.format(8))
    server.wait_for_log("(?s)(generation 2: books@8.*){2}")
    for index in (0, 1):
        os.kill(server.worker(index), signal.SIGKILL)
    server.wait_for_log("(?s)(worker . serves.*){4}")
    with Callers(server, shop) as callers:
        callers.wait_for("8")
        assert {answer.model_version for answer in callers.answers} == {"8"}
        os.kill(server.office(), signal.SIGKILL)
        server.wait_for_log("(?s)(office serves.*){2}")
        shop.write(STABLE.format(9))
        callers.wait_for("9")
    assert callers.failures == []
    assert server.metric("ranker_model_generation") == 3


def test_a_wrong_file_at_the_start_ends_the_server_with_the_reason(shop, tmp_path):
    shop.write("models: {books: {source: books, labels: {stable: 99}}}")
    with pytest.raises(RuntimeError, match=r"Error: .*version 99: there is no such version"):
        RunningServer(tmp_path / "log", "--config", str(shop.config))
