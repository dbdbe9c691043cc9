"""Real models and real servers, each a subprocess."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from benchmarks.harness.launch import RankerServer
from ranker.client import RankerClient
from ranker.export import export_onnx
from ranker.transport import core_api as grpcio
from tests.waiting import PATIENCE

NAMES = tuple(f"feature_{i}" for i in range(12))
STARTUP_SECONDS = 60

on_one_transport = pytest.mark.parametrize("transport", ["core"], scope="session", indirect=True)
"""For tests of what happens beside transports, in processes and models: one of them will do."""

on_both_transports = pytest.mark.parametrize(
    "transport", ["core", "aio"], scope="session", indirect=True
)
"""For tests of what is on the wire. Others run on grpc.aio by `make test-slow` alone, and the tests
of the transports themselves, in tests/transport, always on both."""


@dataclass
class Truth:
    """A trained ranker, its ONNX file, and rows to rank with it."""

    booster: xgb.Booster
    path: Path
    rows: np.ndarray

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """XGBoost's own."""
        matrix = xgb.DMatrix(rows, feature_names=self.booster.feature_names)
        return self.booster.predict(matrix, output_margin=True)


@pytest.fixture(scope="session")
def truth(tmp_path_factory) -> Truth:
    random = np.random.default_rng(7)
    rows = random.normal(size=(3000, len(NAMES))).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    relevance = np.clip(np.nansum(rows[:, :4], axis=1) + random.normal(size=3000), 0, 4)
    train = xgb.DMatrix(rows, relevance.astype(int), feature_names=list(NAMES))
    train.set_group([30] * 100)
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 5, "seed": 1}, train, 60)
    path = tmp_path_factory.mktemp("model") / "books.onnx"
    export_onnx(booster, path, name="books", version="7")
    return Truth(booster, path, rows)


class RunningServer(RankerServer):
    """A `ranker serve` process that serves, started by the launcher of the benchmarks."""

    def __init__(self, log: Path, *arguments: str) -> None:
        super().__init__(*arguments, log=log)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def metrics_port(self) -> int:
        return int(self.metrics_url.split(":")[2].partition("/")[0])

    @cached_property
    def http_port(self) -> int:
        return int(self.wait_for_log(r"HTTP on port (\d+)")[1])

    def worker(self, index: int = 0) -> int:
        """The process that was started last as that worker."""
        return int(re.findall(rf"worker {index} started, pid (\d+)", self.log.read_text())[-1])

    def office(self) -> int:
        """The process that was started last as the office."""
        return int(re.findall(r"office started, pid (\d+)", self.log.read_text())[-1])

    def metrics(self) -> str:
        return self.scrape().text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return self.scrape().total(name, **labels)


@pytest.fixture(scope="session", params=["core", pytest.param("aio", marks=pytest.mark.slow)])
def transport(request) -> str:
    if request.param == "core" and grpcio.unavailable():
        pytest.fail(f"the core transport is the default one, but: {grpcio.unavailable()}")
    return request.param


@pytest.fixture(scope="session")
def server(truth, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """A server that many tests share."""
    log = tmp_path_factory.mktemp("server") / f"{transport}.log"
    running = RunningServer(log, str(truth.path), "--transport", transport)
    yield running
    assert running.stop() == 0, log.read_text()


@pytest.fixture
def start(truth, transport, tmp_path) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers for one test."""
    running: list[RunningServer] = []

    def start(*arguments: str, kind: type[RunningServer] = RunningServer) -> RunningServer:
        log = tmp_path / f"server-{len(running)}.log"
        running.append(kind(log, str(truth.path), "--transport", transport, *arguments))
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.wait()


class Broken(RunningServer):
    """A server whose workers have bugs."""

    program = ("-m", "tests.end_to_end.broken_server")


@pytest.fixture
def client(server) -> Iterator[RankerClient]:
    with RankerClient(server.address, timeout=PATIENCE) as client:
        yield client
