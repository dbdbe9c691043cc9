"""The contract of Vertex AI's custom containers, by every variable that it documents."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.launch import RankerServer
from ranker.client import RankerClient
from ranker.process.vertex import Vertex, stored_models
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.test_http_json import as_json, expected
from tests.office.support import ask
from tests.waiting import PATIENCE, wait_until

MANY = [str(number) for number in range(2000)]
"""Names of features."""
HEALTH, PREDICT = "/v1/endpoints/12/deployedModels/34", "/v1/endpoints/12/deployedModels/34:predict"


def environment(port: int, storage: Path) -> dict[str, str]:
    """As Vertex AI sets it."""
    return {
        "AIP_ACCELERATOR_TYPE": "",
        "AIP_DEPLOYED_MODEL_ID": "34",
        "AIP_ENDPOINT_ID": "12",
        "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
        "AIP_HEALTH_ROUTE": HEALTH,
        "AIP_HTTP_PORT": str(port),
        "AIP_MACHINE_TYPE": "n1-standard-4",
        "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0",
        "AIP_MODEL_NAME": "34",
        "AIP_PREDICT_ROUTE": PREDICT,
        "AIP_PROJECT_NUMBER": "123456",
        "AIP_STORAGE_URI": storage.as_uri(),
        "AIP_VERSION_NAME": "34",
    }


class VertexServer(RankerServer):
    """A server whose environment says on which port HTTP is."""

    settings = {"RANKER_DEVICE": "cpu"}  # noqa: RUF012


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def deployed(truth) -> Iterator[tuple[RankerServer, int]]:
    port = free_port()
    server = VertexServer(environment=environment(port, truth.path.parent))
    server.wait_for_log(f"HTTP on port {port}")
    yield server, port
    assert server.stop() == 0


def test_healthy(deployed):
    assert ask(deployed[1], HEALTH).status == 200


def test_instances_are_lists_to_rank(deployed, truth):
    one, other = truth.rows[:20], truth.rows[20:25]
    instances = [as_json(one), {"candidates": as_json(other), "ids": list("abcde"), "top_k": 5}]
    answer = ask(
        deployed[1], PREDICT, {"instances": instances, "parameters": {"top_k": 3, "explain": 1}}
    )
    assert answer.status == 200
    first, second = answer.json["predictions"]
    assert [len(each["explanations"]) for each in (first, second)] == [1, 1]
    order, scores = expected(truth, one)
    assert (first["indices"], first["scores"]) == (order[:3], scores[:3])
    order, scores = expected(truth, other)
    assert (second["indices"], second["scores"]) == (order, scores)
    assert second["ids"] == [list("abcde")[index] for index in order]


def test_each_of_many_instances_may_be_of_ordinary_length(deployed):
    answer = ask(deployed[1], PREDICT, {"instances": [[[1] * 12] * 90] * 256})
    # What a slow machine can't rank in time it may say; what is wrong with the body it may not.
    assert answer.status in (200, 429, 504), answer.body
    if answer.status == 200:
        assert [len(each["scores"]) for each in answer.json["predictions"]] == [90] * 256


@pytest.mark.parametrize("kind", ["application/x-protobuf", "application/octet-stream"])
def test_raw_bodies_are_messages(deployed, truth, kind):
    rows = truth.rows[:20]
    matrix = pb.Matrix(rows=20, columns=12, data_type=1, data=rows.tobytes())
    body = pb.RankRequest(candidates=matrix).SerializeToString()
    answer = ask(deployed[1], PREDICT, body, headers={"Content-Type": kind})
    assert answer.headers["content-type"] == kind
    response = pb.RankResponse.FromString(answer.body)
    assert (list(response.indices), list(response.scores)) == expected(truth, rows)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "instances", id="nothing"),
        pytest.param({"instances": []}, "instances", id="empty"),
        pytest.param({"instances": [[[1]]] * 300}, "instances", id="too many"),
        pytest.param({"instances": [[[1] * 12], 7]}, "instances[1]", id="a number"),
        pytest.param({"instances": [[[1] * 12, [2]]]}, "instances[0].candidates[1]", id="ragged"),
        pytest.param(
            {"instances": [[[1] * 12], [[1, 2]]]}, "instances[1].candidates.columns", id="columns"
        ),
        pytest.param(
            {"instances": [[[1] * 12] * 60] * 2, "parameters": {"explain": 60}},
            "instances",
            id="explanations",
        ),
        pytest.param(
            {"instances": [[[]] * 2000] * 256}, "instances", id="more lists than it may have"
        ),
        pytest.param({"instances": [[[1]]], "parameters": 0}, "parameters", id="parameters"),
        pytest.param({"instances": [[[1]]], "parameters": []}, "parameters", id="parameters-list"),
        pytest.param(
            {"instances": [[[1]]], "parameters": {"top_k": -1}}, "parameters.top_k", id="shared"
        ),
        pytest.param(
            {"instances": [[[1]]], "parameters": {"feature_names": ["strange"]}},
            "parameters.feature_names[0]",
            id="shared-and-refused-by-the-worker",
        ),
        pytest.param({"instances": [[[1]]], "parameters": {"k": 1}}, "parameters.k", id="name"),
        pytest.param(
            {"instances": [[[1]]] * 256, "parameters": {"feature_names": MANY}},
            "parameters.feature_names",
            id="many names for each",
        ),
        pytest.param(
            {"instances": [[[1]]] * 256, "parameters": {"context": dict.fromkeys(MANY, 1)}},
            "parameters.context",
            id="a large context for each",
        ),
        pytest.param({"instances": [[[1]]], "signature": ""}, "signature", id="strange"),
    ],
)
def test_refusals_name_the_instance(deployed, body, field):
    answer = ask(deployed[1], PREDICT, body)
    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == field


def test_unhealthy_until_a_model_is_there_and_when_it_drains(truth):
    port = free_port()
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            try:
                seen.append(ask(port, HEALTH).status)
            except OSError:
                over.wait(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    server = VertexServer(
        "--max-batch-delay", "600", environment=environment(port, truth.path.parent)
    )
    try:
        wait_until(lambda: 200 in seen)
        with RankerClient(server.address, timeout=PATIENCE) as client:
            waiting = threading.Thread(target=lambda: client.rank(truth.rows[:5], timeout=20.0))
            waiting.start()
            wait_until(lambda: server.scrape().total("ranker_queue_rows") == 5)
            server.signal(signal.SIGTERM)
            wait_until(lambda: seen[-1] == 503)
            waiting.join()
        assert server.stop() == 0
    finally:
        over.set()
        thread.join()
        server.kill()
    ready = seen.index(200)
    assert set(seen[:ready]) <= {503}
    assert set(seen) == {200, 503}


def test_variables(tmp_path):
    assert Vertex.of({}) is None
    assert Vertex.of({"AIP_MODE": "TRAINING"}) is None
    found = Vertex.of({"AIP_MODE": "PREDICTION", "AIP_ENDPOINT_ID": "1"})
    assert found == Vertex(
        8080, "/v1/endpoints/1/deployedModels/0", "/v1/endpoints/1/deployedModels/0:predict"
    )
    for wrong in ({"AIP_HTTP_PORT": "x"}, {"AIP_PREDICT_ROUTE": "p"}, {"AIP_HEALTH_ROUTE": "/{x}"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Vertex.of({"AIP_MODE": "PREDICTION", **wrong})
    assert stored_models({"AIP_STORAGE_URI": str(tmp_path)}) == ()
    for storage, words in ((str(tmp_path), "no .*onnx there"), ("gs://a/b", "RANKER_MODELS")):
        with pytest.raises(ValueError, match=words):
            stored_models({"AIP_MODE": "PREDICTION", "AIP_STORAGE_URI": storage})
    (tmp_path / "a.onnx").touch()
    variables = {"AIP_MODE": "PREDICTION", "AIP_STORAGE_URI": tmp_path.as_uri()}
    assert stored_models(variables) == (str(tmp_path / "a.onnx"),)
