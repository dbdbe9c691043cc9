"""Requests that are like the training data, and others: metrics, log and page; and a reload."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import numpy as np
import pytest
import xgboost as xgb

from ranker.client import RankerClient
from ranker.client.request import rank_request
from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import publish
from tests.end_to_end.conftest import RunningServer, on_one_transport
from tests.end_to_end.test_live_models import RANK
from tests.end_to_end.test_status_page import Events
from tests.waiting import PATIENCE

pytestmark = on_one_transport

NAMES = [f"f{number}" for number in range(6)]
CONFIG = "models: {{books: {{source: books, labels: {{stable: {}}}}}}}"


def lists(dice: np.random.Generator) -> np.ndarray:
    rows = dice.normal(size=(30, len(NAMES))).astype(np.float32)
    rows[dice.random(rows.shape) < 0.1] = np.nan
    return rows


def shifted(dice: np.random.Generator) -> np.ndarray:
    rows = lists(dice)
    rows[:, 0] += 2
    rows[:, 1] = np.nan
    rows[:, 2] = 0.5
    rows[:, 3] += 1000
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Version 7 with a reference, version 8 without."""
    folder = tmp_path_factory.mktemp("shop")
    dice = np.random.default_rng(8)
    rows = np.concatenate([lists(dice) for _ in range(200)])
    labels = np.nansum(rows, axis=1)
    booster = xgb.train({"max_depth": 4}, xgb.DMatrix(rows, labels, feature_names=NAMES), 30)
    for version, reference in {"7": rows, "8": None}.items():
        path = folder / f"{version}.onnx"
        export_onnx(booster, path, name="books", version=version, reference=reference)
        publish(ModelFile.read(path), str(folder / "books"), progress=str)
    return folder


@pytest.fixture
def server(folder, transport, tmp_path) -> Iterator[RunningServer]:
    (folder / "ranker.yaml").write_text(CONFIG.format(7))
    options = ("--config", str(folder / "ranker.yaml"), "--transport", transport)
    running = RunningServer(tmp_path / "log", *options, "--workers", "2")
    yield running
    running.kill()


def ask_until(
    server: RunningServer,
    make: Callable[[np.random.Generator], np.ndarray],
    condition: Callable[[], object],
) -> None:
    """Has lists ranked over four connections until something has happened."""
    dice, limit = np.random.default_rng(9), time.monotonic() + PATIENCE
    options = [("grpc.use_local_subchannel_pool", 1)]
    with ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(server.address, options)) for _ in range(4)
        ]
        ranks = [channel.unary_unary(RANK) for channel in channels]
        while not condition():
            assert time.monotonic() < limit, "it did not happen in time"
            for _ in range(20):
                for rank in ranks:
                    rank(rank_request(make(dice)), timeout=PATIENCE)
                time.sleep(0.02)


def index(server: RunningServer) -> dict[str, float]:
    """The features' index, by their names."""
    pattern = r'ranker_drift_feature_psi\{feature="(\w+)",model="books",version="7"\} (\S+)'
    return {name: float(value) for name, value in re.findall(pattern, server.metrics())}


def test_what_has_drifted_is_told_and_what_has_not_is_not(server, folder):
    ask_until(server, lists, lambda: len(index(server)) == len(NAMES))
    assert max(index(server).values()) < 0.1
    assert server.metric("ranker_drift_score_psi", model="books", version="7") < 0.1
    log = server.log.read_text()
    assert "unlike in the training data" not in log

    line = r"books@7, features, unlike in the training data: (.*?)\""
    found: dict[str, str] = {}

    def named() -> bool:
        for part in re.findall(line, server.log.read_text()):
            found.update(re.findall(r"'(\w+)' is ([a-z ]+)", part))
        return len(found) == 3 and len(list(filter(far, index(server).items()))) == 4

    def far(item: tuple[str, float]) -> bool:
        return item[1] > 0.25

    ask_until(server, shifted, named)
    assert found == {
        "f1": "missing everywhere",
        "f2": "constant",
        "f3": "above all thresholds",
    }
    now = index(server)
    assert {name for name in now if now[name] > 0.25} == {"f0", "f1", "f2", "f3"}
    assert max(now["f4"], now["f5"]) < 0.1
    missing = server.metric("ranker_drift_feature_missing_ratio", feature="f1")
    assert 0.2 < missing < 1

    with closing(Events(server.http_port)) as events:
        [model] = events.until("drift", lambda models: models and models[0]["enough"])
    assert (model["version"], model["reference"]) == ("7", True)
    first = model["features"][0]
    assert {each["name"] for each in model["features"][:4]} == {"f0", "f1", "f2", "f3"}
    assert first["psi"] > 0.25
    assert first["missing_before"] == pytest.approx(0.1, abs=0.02)

    with RankerClient(server.address, timeout=PATIENCE) as client:
        assert client.get_model().has_reference
        (folder / "new.yaml").write_text(CONFIG.format(8))
        (folder / "new.yaml").rename(folder / "ranker.yaml")
        ask_until(server, lists, lambda: client.get_model().version == "8")
        assert not client.get_model().has_reference
    ask_until(server, lists, lambda: server.metric("ranker_drift_rows", version="8") > 0)
    assert not index(server)
    assert 'version="7"' not in "".join(re.findall(r"ranker_drift_.*\n", server.metrics()))
