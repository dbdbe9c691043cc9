"""Real models and real servers, each a subprocess."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from ranker.client import RankerClient
from ranker.export import export_onnx
from ranker.transport import core_api as grpcio

NAMES = tuple(f"feature_{i}" for i in range(12))
STARTUP_SECONDS = 60


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


class RunningServer:
    """A `ranker serve` process that listens."""

    program = ("-m", "ranker")
    group: int | None = None

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        ports = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]
        command = [sys.executable, *self.program, "serve", *ports, *arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RANKER_")}
        environment["RANKER_DEVICE"] = "cpu"  # the same everywhere, also where there is a GPU
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command, stdout=stream, stderr=stream, env=environment, process_group=self.group
            )
        self.port = int(self.wait_for_log(r"listening on 127\.0\.0\.1:(\d+)")[1])
        self.metrics_port = int(self.wait_for_log(r"metrics on port (\d+)")[1])
        self.address = f"127.0.0.1:{self.port}"
        self.wait_ready()

    def wait_ready(self) -> None:
        with RankerClient(self.address) as client:
            client.wait_ready(STARTUP_SECONDS)

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        limit = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < limit:
            text = self.log.read_text()
            found = re.search(pattern, text)
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in the server's log:\n{self.log.read_text()}")

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as page:
            return page.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.metrics().splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found:
                has = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
                if labels.items() <= has.items():
                    total += float(found[2])
        return total

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ends the server; returns its exit code."""
        if self.process.poll() is None:
            self.signal()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


@pytest.fixture(scope="session", params=["aio", "core"])
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


@pytest.fixture
def client(server) -> Iterator[RankerClient]:
    with RankerClient(server.address) as client:
        yield client
