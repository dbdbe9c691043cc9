"""Ranking by JSON over HTTP: the answers are XGBoost's, the refusals are gRPC's."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from ranker.client import RankerClient
from ranker.errors import RankerError
from ranker.export import export_onnx
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import NAMES, RunningServer
from tests.office.support import ask
from tests.waiting import PATIENCE, wait_until

RANK = "/v1/models/books:rank"


def as_json(rows: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in rows.tolist()]


def expected(truth, rows: np.ndarray) -> tuple[list[int], list[float]]:
    scores = truth.scores(rows)
    order = np.argsort(-scores, kind="stable")
    return order.tolist(), scores[order].tolist()


@pytest.mark.parametrize("trace", ["caf\xe9", "00-\x01-\x01-01", "x" * 300])
def test_what_is_no_trace_context_is_ignored(server, truth, trace):
    rows = truth.rows[:5]
    body = {"candidates": as_json(rows)}
    answer = ask(server.http_port, RANK, body, headers={"traceparent": trace})
    assert answer.status == 200
    assert answer.json["indices"] == expected(truth, rows)[0]


@pytest.mark.parametrize("path", [RANK, "/v1/models/books/versions/7:rank"])
@pytest.mark.parametrize("form", ["lists", "objects", "context", "protobuf"])
def test_the_order_and_the_scores_are_xgboosts(server, truth, path, form):
    rows = truth.rows[:50].copy()
    rows[:, 0] = rows[0, 0] if not math.isnan(rows[0, 0]) else 0.5
    ids = [f"book {index}" for index in range(len(rows))]
    order, scores = expected(truth, rows)
    listed = as_json(rows)
    if form == "protobuf":
        matrix = pb.Matrix(rows=50, columns=12, data_type=1, data=rows.tobytes())
        request = pb.RankRequest(candidates=matrix, candidate_ids=ids)
        kind = {"Content-Type": "application/x-protobuf"}
        answer = ask(server.http_port, path, request.SerializeToString(), headers=kind)
        assert answer.headers["content-type"] == "application/x-protobuf"
        response = pb.RankResponse.FromString(answer.body)
        found = list(response.indices), list(response.scores), list(response.candidate_ids)
    else:
        body: dict[str, object] = {"candidates": listed, "ids": ids}
        if form != "lists":
            shuffled = [*NAMES[6:], *NAMES[1:6], *([NAMES[0]] * (form == "objects"))]
            body["candidates"] = [
                {name: row[NAMES.index(name)] for name in shuffled} for row in listed
            ]
        if form == "context":
            body["context"] = {NAMES[0]: listed[0][0]}
        answer = ask(server.http_port, path, body)
        assert answer.status == 200, answer.body
        found = answer.json["indices"], answer.json["scores"], answer.json["ids"]
        assert (answer.json["model"], answer.json["model_version"]) == ("books", "7")
    assert found == (order, scores, [ids[index] for index in order])


def test_top_k_and_request_id(server, truth):
    rows = truth.rows[:20]
    body = {"candidates": as_json(rows), "top_k": 3, "request_id": "r7"}
    answer = ask(server.http_port, RANK, body).json
    assert answer["indices"] == expected(truth, rows)[0][:3]
    assert answer["request_id"] == "r7"


@pytest.mark.parametrize(
    ("path", "change", "status"),
    [
        pytest.param(RANK, {"top_k": 3, "candidates": [[1.0, 2.0]]}, 400, id="columns"),
        pytest.param(RANK, {"feature_names": [*NAMES[:-1], "x"]}, 400, id="name"),
        pytest.param(RANK, {"feature_names": [*NAMES[:-1], NAMES[0]]}, 400, id="name twice"),
        pytest.param(RANK, {"context": {"feature_0": 1.0}}, 400, id="context"),
        pytest.param(RANK, {"ids": ["a"]}, 400, id="ids"),
        pytest.param("/v1/models/films:rank", {}, 404, id="model"),
        pytest.param("/v1/models/books/versions/8:rank", {}, 404, id="version"),
    ],
)
def test_refusals_are_the_same_as_over_grpc(server, truth, path, change, status):
    body = {"candidates": as_json(truth.rows[:3]), **change}
    answer = ask(server.http_port, path, body)
    assert answer.status == answer.json["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    names = re.fullmatch(r"/v1/models/(\w+)(?:/versions/(\w+))?:rank", path)
    options = {
        {"ids": "candidate_ids"}.get(name, name): value
        for name, value in change.items()
        if name != "candidates"
    }
    with (
        RankerClient(server.address, timeout=PATIENCE) as client,
        pytest.raises(RankerError) as caught,
    ):
        client.rank(
            np.array(body["candidates"], np.float32),
            model=names[1],
            model_version=names[2] or "",
            **options,
        )
    assert answer.json["detail"] == caught.value.message
    assert answer.json["code"] == caught.value.code.name
    if status == 400:
        assert answer.json["errors"][0]["field"] == caught.value.field


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({}, b"{}", 415, id="no type"),
        pytest.param({"Content-Type": "text/plain"}, b"{}", 415, id="text"),
        pytest.param(
            {"Content-Type": "application/json; charset=latin-1"}, b"{}", 415, id="latin-1"
        ),
        pytest.param(
            {"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 415, id="gzip"
        ),
        pytest.param({"Content-Type": "application/json"}, b" " * (3 * 2**20), 413, id="large"),
        pytest.param({"Content-Type": "application/json"}, b"[" * (2**20), 400, id="deep"),
        pytest.param({"Content-Type": "application/x-protobuf"}, b"\xff", 400, id="no message"),
        pytest.param(
            {"Content-Type": "application/x-protobuf"},
            pb.RankRequest(model="films").SerializeToString(),
            400,
            id="another model",
        ),
        pytest.param(
            {"Content-Type": "APPLICATION/JSON; charset=UTF-8"},
            b'{"candidates":[[1,2,3,4,5,6,7,8,9,10,11,12]]}',
            200,
            id="utf-8",
        ),
    ],
)
def test_bodies(server, headers, body, status):
    answer = ask(server.http_port, RANK, body, headers=headers)
    assert answer.status == status
    if status != 200:
        assert answer.json["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_large_chunked_body_is_refused_before_it_has_come(server):
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=PATIENCE) as client:
        client.sendall(
            b"POST /v1/models/books:rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            client.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        pytest.param("/v1/nothing", {}, "application/json", 404, id="no-such-page"),
        pytest.param(RANK, {"candidates": 1}, "application/json", 400, id="no-list"),
        pytest.param(RANK, b" " * (2**21 + 1), "application/json", 413, id="too-large"),
        pytest.param(RANK, {}, "text/html", 415, id="no-json"),
    ],
)
def test_what_the_office_refuses_by_itself_is_counted(server, path, body, kind, status):
    name, code = "ranker_http_responses_total", str(status)
    before = server.metric(name, code=code)
    answer = ask(server.http_port, path, body, headers={"Content-Type": kind})
    assert answer.status == status
    assert server.metric(name, code=code) == before + 1


@pytest.mark.parametrize("shared", [0, 1, 12], ids=["alone", "context", "all-in-the-context"])
def test_candidates_without_any_feature_have_all_of_them_missing(server, truth, shared):
    rows = np.full((3, 12), np.nan, np.float32)
    rows[:, :shared] = 0.5
    context = dict.fromkeys(NAMES[:shared], 0.5)
    answer = ask(server.http_port, RANK, {"candidates": [{}] * 3, "context": context})
    assert answer.status == 200, answer.body
    assert (answer.json["indices"], answer.json["scores"]) == expected(truth, rows)


def test_a_required_feature_that_one_candidate_lacks(truth, tmp_path):
    path = tmp_path / "strict.onnx"
    export_onnx(truth.booster, path, name="strict", required_features=[NAMES[1]])
    server = RunningServer(tmp_path / "server.log", str(path))
    try:
        rows = as_json(truth.rows[:3])
        candidates = [dict(zip(NAMES, row, strict=True)) for row in rows]
        assert ask(server.http_port, "/v1/models/strict:rank", {"candidates": candidates}).json
        del candidates[2][NAMES[0]]
        body = {"candidates": candidates}
        assert ask(server.http_port, "/v1/models/strict:rank", body).status == 200
        del candidates[1][NAMES[1]]
        answer = ask(server.http_port, "/v1/models/strict:rank", body)
        assert answer.status == 400
        assert answer.json["errors"][0]["field"] == f"candidates[1].{NAMES[1]}"
        body = {"candidates": [{}, {}]}
        answer = ask(server.http_port, "/v1/models/strict:rank", body)
        assert answer.status == 400
        assert answer.json["errors"][0]["field"] == f"candidates[0].{NAMES[1]}"
        body["context"] = {NAMES[1]: 1}
        assert ask(server.http_port, "/v1/models/strict:rank", body).status == 200
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def unhurried(truth, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """A server that scores nothing for half a minute."""
    log = tmp_path_factory.mktemp("unhurried") / "server.log"
    options = ("--max-batch-delay", "30.0", "--transport", transport)
    with RunningServer(log, str(truth.path), *options) as running:
        yield running


def test_a_deadline_holds(unhurried, truth):
    body = {"candidates": as_json(truth.rows[:3]), "deadline_ms": 200}
    begun = time.monotonic()
    answer = ask(unhurried.http_port, RANK, body)
    assert time.monotonic() - begun < 15
    assert answer.status in (429, 504)


def test_who_goes_away_is_not_waited_for(unhurried, truth):
    body = json.dumps({"candidates": as_json(truth.rows[:3])}).encode()
    head = f"POST {RANK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", unhurried.http_port)) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: unhurried.metric("ranker_rpcs_in_flight") == 1)
    wait_until(lambda: unhurried.metric("ranker_rpcs_in_flight") == 0, 15.0)


def test_a_killed_worker_costs_no_answer(start, truth):
    server = start("--workers", "2")
    body = {"candidates": as_json(truth.rows[:3])}
    statuses: list[int] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            statuses.append(ask(server.http_port, RANK, body).status)

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(0.5)
    os.kill(server.worker(), signal.SIGKILL)
    time.sleep(1.0)
    over.set()
    thread.join()
    assert set(statuses) == {200}


def test_hostile_bodies_cost_bounded_memory(start):
    """Small bodies that become much when they are read; several at once."""
    server = start()
    bodies = [
        b'{"candidates":[' + b"[]," * 600_000 + b"[]]}",
        b'{"candidates":[[' + b"1.5," * 500_000 + b"1]]}",
        b'{"candidates":[{' + b'"":1,' * 400_000 + b'"":1}]}',
        b'{"candidates":[[' + b'"",' * 600_000 + b"1]]}",
    ]
    names = b",".join(b'"%x":1' % number for number in range(190_000))
    bodies.append(b'{"candidates":[{' + names + b"}]}")
    process = psutil.Process(server.office())
    ask(server.http_port, RANK, {"candidates": [[1]]})
    before = process.memory_info().rss
    most = 0
    threads = [
        threading.Thread(
            target=lambda body=body: ask(
                server.http_port,
                RANK,
                body,
                headers={"Content-Type": "application/json"},
                timeout=60,
            )
        )
        for body in bodies * 2
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert process.is_running(), server.log.read_text()
        most = max(most, process.memory_info().rss)
        time.sleep(0.02)
    assert most - before < 250 * 2**20
    assert ask(server.http_port, "/healthz").status == 200


def test_the_models_are_described(server):
    [model] = ask(server.http_port, "/v1/models").json["models"]
    assert (model["name"], model["version"], model["num_features"]) == ("books", "7", len(NAMES))
    assert ask(server.http_port, "/v1/models/books").json["feature_names"] == list(NAMES)
    assert ask(server.http_port, "/v1/models/books/versions/7").status == 200
    assert ask(server.http_port, "/v1/models/films").status == 404
