"""What a server does of itself about a rollout: it checks the split's shares, and guards stable."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterable

import grpc
import numpy as np
import xgboost as xgb

from ranker.client.request import rank_request
from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import publish
from ranker.repository.traffic import Split
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import RunningServer
from tests.end_to_end.test_live_models import (  # noqa: F401
    RANK,
    Shop,
    listed,
    published,
    serve,
    shop,
)
from tests.forest.onnx import onnx_models
from tests.forest.onnx.onnx_models import Split as Node
from tests.waiting import wait_until

STREAM = "/ranker.v1.RankingService/RankStream"
SHARED = (
    "models: {{books: {{source: books, labels: {{stable: 7, canary: {canary}}}, "
    "traffic: {{stable: {stable}, canary: {share}}}, salt: s{more}}}}}"
)
Serve = Callable[..., RunningServer]


def ask_for(address: str, units: Iterable[str], rows: np.ndarray) -> dict[str, pb.RankResponse]:
    """Ranks a short list for each unit, on one stream."""
    units = list(units)
    messages = (
        rank_request(rows, request_id=unit) + pb.RankRequest(unit=unit).SerializeToString()
        for unit in units
    )
    with grpc.insecure_channel(address) as channel:
        answers = map(pb.RankResponse.FromString, channel.stream_stream(STREAM)(messages))
        found = {answer.request_id: answer for answer in answers}
    assert found.keys() == set(units)
    return found


def test_shares_that_are_off_are_said_and_those_that_are_not_are_not(serve: Serve, shop: Shop):  # noqa: F811
    shop.write(SHARED.format(stable=70, canary=8, share=30, more=""))
    server = serve("--workers", "2")
    split = Split({"stable": 70, "canary": 30}, "s")
    units = [f"reader-{i}" for i in range(4000)]
    labels = {"stable": "7", "canary": "8"}

    def sampled(label: str) -> float:
        return server.metric("ranker_split_units", model="books", version=labels[label])

    for answer in ask_for(server.address, units, shop.rows[:2]).values():
        assert answer.arm == split.arm(answer.request_id)
    proper = server.metric("ranker_split_p_value", model="books")
    assert proper > 0.001
    assert server.metric("ranker_split_share_ratio", model="books", version="8") == 0.3
    assert 1500 < sampled("stable") + sampled("canary") <= len(set(units))
    assert "not split as configured" not in server.log.read_text()
    # Somebody upstream sends half of the canary's readers elsewhere.
    others = [f"other-{i}" for i in range(6000)]
    ask_for(server.address, [u for u in others if split.arm(u) == "stable"], shop.rows[:2])
    server.wait_for_log(r"books: its traffic is not split as configured: of \d+ units version 7")
    assert server.metric("ranker_split_p_value", model="books") < 0.001
    server.metric("ranker_model_label_info", model="books", version="8", label="canary")


def publish_wide(shop: Shop) -> None:  # noqa: F811
    """A version 10 that wants a column more than callers send."""
    if not (shop.folder / "books" / "10").exists():
        node = onnx_models.tree_ensemble([Node(0, "LT", 0.5, 1.0, 2.0, True)])
        path = shop.folder / "10.onnx"
        path.write_bytes(onnx_models.model(node, features=9).SerializeToString())
        publish(ModelFile.read(path), str(shop.folder / "books"), "10", progress=str)


class Readers:
    """A caller that ranks for one unit after the other, until it is told to stop."""

    def __init__(self, server: RunningServer, request: bytes) -> None:
        self.codes: list[int] = []
        self.arms: list[str] = []
        self._over = threading.Event()
        arguments = (server.address, request)
        self._thread = threading.Thread(target=self._ask, args=arguments)

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self, address: str, request: bytes) -> None:
        with grpc.insecure_channel(address) as channel:
            rank = channel.unary_unary(RANK)
            while not self._over.is_set():
                unit = pb.RankRequest(unit=f"reader-{len(self.codes)}").SerializeToString()
                try:
                    answer = pb.RankResponse.FromString(rank(request + unit, timeout=30))
                    self.codes.append(0)
                    self.arms.append(answer.arm)
                except grpc.RpcError as error:
                    self.codes.append(error.code().value[0])


GUARD = ", guard: {errors: 1%, minutes: 5}"


def test_a_canary_that_fails_loses_its_traffic_if_there_is_a_guard(serve: Serve, shop: Shop):  # noqa: F811
    publish_wide(shop)
    shop.write(SHARED.format(canary=10, stable=80, share=20, more=""))
    server = serve("--workers", "2")
    with Readers(server, shop.request) as readers:
        wait_until(lambda: len(readers.codes) > 1500)
    assert {model.traffic_percent for model in listed(server).models} == {80, 20}
    shop.write(SHARED.format(canary=10, stable=80, share=20, more=GUARD))
    server.wait_for_log("(?s)(generation 2.*){2}")
    with Readers(server, shop.request) as readers:
        server.wait_for_log(r"books: the guard moves the 20 % of canary to stable: \d+ of \d+ req")
        server.wait_for_log("(?s)(generation 3: books@10 with 0% of its traffic.*){2}")
        failed = readers.codes.count(grpc.StatusCode.INVALID_ARGUMENT.value[0])
        assert failed >= 100
        before = len(readers.codes)
        wait_until(lambda: len(readers.codes) > before + 200)
        assert set(readers.codes[before + 5 :]) == {0}
        assert set(readers.arms) == {"stable"}

    def moved() -> dict[str, pb.Model] | None:
        models = {model.version: model for model in listed(server).models}
        shares = models["7"].traffic_percent, models["10"].traffic_percent
        return models if shares == (100, 0) else None

    # A worker that nobody calls does what it is told up to a tenth of a second later.
    models = wait_until(moved)
    assert models is not None
    assert models["10"].state == pb.MODEL_STATE_AVAILABLE
    assert "the guard holds it" in models["10"].state_reason
    assert server.metric("ranker_guard_rollbacks_total", model="books", version="10") == 1
    # A worker that starts anew knows.
    pid = int(re.findall(r"worker 0 started, pid (\d+)", server.log.read_text())[-1])
    os.kill(pid, signal.SIGKILL)
    server.wait_for_log("(?s)(worker 0 serves.*){2}")
    with Readers(server, shop.request) as readers:
        wait_until(lambda: len(readers.codes) > 200)
    assert set(readers.codes) == {0}
    # Until the file says something else of the model.
    shop.write(SHARED.format(canary=8, stable=80, share=20, more=GUARD))
    server.wait_for_log("the guard lets it go")
    wait_until(lambda: {m.version for m in listed(server).models} == {"7", "8"})
    with Readers(server, shop.request) as readers:
        wait_until(lambda: "canary" in readers.arms)
    assert set(readers.codes) == {0}


def publish_slow(shop: Shop) -> None:  # noqa: F811
    """A version 11 that takes two hundred times as long as the others."""
    if not (shop.folder / "books" / "11").exists():
        dice = np.random.default_rng(5)
        rows = dice.normal(size=(400, 8)).astype(np.float32)
        train = xgb.DMatrix(rows, dice.normal(size=len(rows)))
        settings = {"num_parallel_tree": 200, "subsample": 0.5, "max_depth": 5, "nthread": 1}
        path = shop.folder / "11.onnx"
        export_onnx(xgb.train(settings, train, 20), path, name="books", version="11")
        publish(ModelFile.read(path), str(shop.folder / "books"), progress=str)


def test_a_canary_that_is_slow_loses_its_traffic(serve: Serve, shop: Shop):  # noqa: F811
    publish_slow(shop)
    guard = ", guard: {p99: 1ms, errors: 1%}"
    shop.write(SHARED.format(canary=11, stable=80, share=20, more=guard))
    server = serve()
    rows = np.zeros((5000, 8), np.float32)
    with Readers(server, rank_request(rows, top_k=1)):
        said = r"guard moves the 20 % of canary to stable: \d+ of \d+ answers took longer than 1 ms"
        server.wait_for_log(said)
        server.wait_for_log("generation 2: books@11 with 0% of its traffic")
