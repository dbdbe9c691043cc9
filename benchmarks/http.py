"""What a request over HTTP costs the server, beside gRPC: processor time and latency.

One request at a time, on a connection that stays.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import xgboost as xgb

from benchmarks.harness.launch import RankerServer
from ranker.client import RankerClient
from ranker.export import export_onnx
from ranker.v1 import ranking_pb2 as pb

CANDIDATES, FEATURES, TREES, REQUESTS = 100, 64, 500, 300


def export(path: Path, rows: np.ndarray) -> None:
    """A ranker of so many trees, trained on noise."""
    data = xgb.DMatrix(rows, np.arange(len(rows)) % 5, feature_names=_names())
    data.set_group([len(rows)])
    booster = xgb.train({"objective": "rank:ndcg", "max_depth": 6}, data, TREES)
    export_onnx(booster, path, name="m", version="1")


def callers(rows: np.ndarray, client: RankerClient, port: int) -> dict[str, Callable[[], object]]:
    """One request in each form."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def post(body: bytes, kind: str) -> bytes:
        connection.request("POST", "/v1/models/m:rank", body, {"Content-Type": kind})
        answer = connection.getresponse()
        read = answer.read()
        assert answer.status == 200, read
        return read

    values = [
        [None if value != value else round(value, 5) for value in row] for row in rows.tolist()
    ]
    named = [dict(zip(_names(), row, strict=True)) for row in values]
    lists = json.dumps({"candidates": values}).encode()
    objects = json.dumps({"candidates": named}).encode()
    matrix = pb.Matrix(
        rows=CANDIDATES, columns=FEATURES, data_type=pb.DATA_TYPE_FLOAT32, data=rows.tobytes()
    )
    message = pb.RankRequest(candidates=matrix).SerializeToString()
    return {
        "gRPC": lambda: client.rank(rows, timeout=10.0),
        "HTTP, protobuf": lambda: post(message, "application/x-protobuf"),
        "HTTP, JSON, lists": lambda: post(lists, "application/json"),
        "HTTP, JSON, objects": lambda: post(objects, "application/json"),
    }


@click.command()
def main() -> None:
    """What a request costs the server over HTTP, beside gRPC."""
    random = np.random.default_rng(2)
    rows = random.normal(size=(2000, FEATURES)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        export(path, rows)
        with (
            RankerServer(str(path), "--http-port", "0") as server,
            RankerClient(server.address) as client,
        ):
            port = int(server.wait_for_log(r"HTTP on port (\d+)")[1])
            measure(server, callers(rows[:CANDIDATES], client, port))


def measure(server: RankerServer, forms: dict[str, Callable[[], object]]) -> None:
    """Prints a line for each form."""
    print(f"{CANDIDATES} candidates x {FEATURES} features, {TREES} trees, one at a time")
    print(f"{'':22}{'server CPU':>12}{'p50':>10}{'p99':>10}")
    for name, ask in forms.items():
        for _ in range(30):
            ask()
        before = server.cpu_seconds()
        took = []
        for _ in range(REQUESTS):
            begun = time.perf_counter()
            ask()
            took.append(time.perf_counter() - begun)
        cpu = (server.cpu_seconds() - before) / REQUESTS
        p50, p99 = np.percentile(took, [50, 99])
        print(f"{name:22}{cpu * 1e6:9.0f} us{p50 * 1e3:7.2f} ms{p99 * 1e3:7.2f} ms")


def _names() -> list[str]:
    return [f"feature_{index}" for index in range(FEATURES)]
