"""What a request over HTTP costs the server, beside gRPC: processor time and latency.

Lists of 100 candidates and a model of 500 trees, one request at a time, on a connection that
stays: over gRPC, and over HTTP as the same message and as JSON of lists and of objects.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator

import click
import numpy as np

from benchmarks.harness import cost
from benchmarks.harness.data import CACHE, FEATURES, SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request
from ranker import export_onnx
from ranker.client import RankerClient

CANDIDATES, TREES, WARM_UP = 100, 500, 30
NAMES = [f"feature_{number}" for number in range(FEATURES)]
"""Of features: a model without names takes no objects."""


def forms(
    server: RankerServer, requests: list[Request], client: RankerClient
) -> Iterator[tuple[str, list[Callable[[], object]]]]:
    """Each way to ask, as calls of which each asks for another list."""
    port = int(server.wait_for_log(r"HTTP on port (\d+)")[1])
    path = f"/v1/models/{client.get_model().name}:rank"
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def post(body: bytes, kind: str) -> Callable[[], object]:
        def ask() -> None:
            connection.request("POST", path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            if answer.read() and answer.status != 200:
                raise RuntimeError(f"HTTP status {answer.status}")

        return ask

    lists = [[[None if v != v else v for v in row] for row in r.rows.tolist()] for r in requests]
    objects = [[dict(zip(NAMES, row, strict=True)) for row in rows] for rows in lists]
    yield "gRPC", [lambda r=r: client.rank(r.rows, timeout=10.0) for r in requests]  # type: ignore[misc]
    yield "HTTP, protobuf", [post(r.message, "application/x-protobuf") for r in requests]
    for name, found in (("lists", lists), ("objects", objects)):
        bodies = [json.dumps({"candidates": rows}).encode() for rows in found]
        yield f"HTTP, JSON, {name}", [post(body, "application/json") for body in bodies]


@command
@click.option("--rounds", default=3)
@click.option("--count", default=300, help="Requests for each figure.")
def main(report: Report, rounds: int, count: int) -> None:
    """Measures and prints a table."""
    trained, found = Trained(SERVED), Rounds()
    requests = trained.requests(CANDIDATES, TREES)
    model, trained.booster.feature_names = CACHE / "named.onnx", NAMES
    export_onnx(trained.booster, model, iteration_range=(0, TREES))
    with (
        RankerServer(str(model), "--http-port", "0") as server,
        RankerClient(server.address) as client,
    ):
        for _ in report.rounds(rounds):
            for name, asks in forms(server, requests, client):
                for ask in asks[:WARM_UP]:
                    ask()
                cpu, took = server.cpu_seconds(), []
                for index in range(count):
                    began = time.perf_counter()
                    asks[index % len(asks)]()
                    took.append(time.perf_counter() - began)
                cpu = server.cpu_seconds() - cpu
                found.note(name, cost.cost(cpu, count, sum(took), *np.percentile(took, (50, 99))))
    found.show(report, "form")
