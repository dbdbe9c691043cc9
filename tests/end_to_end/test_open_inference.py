"""The Open Inference Protocol of a real server, over gRPC and HTTP: the scores are XGBoost's."""

from __future__ import annotations

import concurrent.futures
import json
import math
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker import distribution
from ranker.client import RankerClient
from ranker.inference import open_inference_pb2 as pb
from tests.end_to_end.conftest import NAMES, on_both_transports
from tests.end_to_end.test_access_log import wait_for_lines
from tests.office.support import ask
from tests.serving.open_inference.support import infer_request, tensors
from tests.waiting import PATIENCE

SERVICE = "inference.GRPCInferenceService"
MODEL = "/v2/models/books"


class Stub:
    """Calls the service as any client does that has the published .proto."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def __getattr__(self, name: str):
        method = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name[name]
        kind = "stream_stream" if method.client_streaming else "unary_unary"
        return getattr(self.channel, kind)(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(pb, method.output_type.name).FromString,
        )


@pytest.fixture
def stub(server) -> Iterator[Stub]:
    with grpc.insecure_channel(server.address) as channel:
        yield Stub(channel)


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@on_both_transports
@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
@pytest.mark.parametrize("count", [1, 50, 700])
def test_scores_are_xgboosts(stub, truth, typed, count):
    rows = truth.rows[:count]
    assert count == 1 or np.isnan(rows).any()
    found = tensors(stub.ModelInfer(infer_request(rows, typed=typed), timeout=10))
    expected = truth.scores(rows)
    same_bits(found["scores"], expected)
    assert found["indices"].tolist() == np.argsort(-expected, kind="stable").tolist()


@on_both_transports
def test_lists_that_come_at_once_keep_their_scores(stub, truth, client):
    """With those of our own protocol in the same batches."""
    parts = [truth.rows[start : start + size] for start, size in enumerate(range(1, 200, 5))]

    def ask(index: int) -> None:
        rows, expected = parts[index], truth.scores(parts[index])
        if index % 3:
            same_bits(tensors(stub.ModelInfer(infer_request(rows), timeout=20))["scores"], expected)
        else:
            ranking = client.rank(rows, timeout=20)
            same_bits(np.float32(ranking.scores), expected[list(ranking.indices)])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, list(range(len(parts))) * 3))


@on_both_transports
def test_a_stream_is_answered_in_order(stub, truth):
    sizes = [400, 1, 90, 3, 250, 2] * 5
    requests = [infer_request(truth.rows[:size], outputs=("scores",)) for size in sizes]
    requests.insert(4, infer_request(truth.rows[:2, :5], id="wrong"))
    answers = list(stub.ModelStreamInfer(iter(requests), timeout=30))
    wrong = answers.pop(4)
    assert wrong.error_message.startswith("INVALID_ARGUMENT: inputs[0].shape")
    assert wrong.infer_response.id == "wrong"
    for size, answer in zip(sizes, answers, strict=True):
        same_bits(tensors(answer.infer_response)["scores"], truth.scores(truth.rows[:size]))


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        pytest.param(
            infer_request(np.zeros((2, 5))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "inputs[0].shape: expected [n, 12]",
            id="shape",
        ),
        pytest.param(
            infer_request(np.zeros((2, 12)), model_name="songs"),
            grpc.StatusCode.NOT_FOUND,
            "books@7",
            id="model",
        ),
        pytest.param(
            infer_request(np.zeros((2, 12)), parameters={"top": 3}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "no such parameter, 'top'",
            id="parameter",
        ),
    ],
)
def test_errors_are_grpcs(stub, request_, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_, timeout=10)
    assert caught.value.code() is code
    assert text in caught.value.details()


@on_both_transports
def test_every_method_answers(stub):
    """Or says that it is not there; nothing hangs."""
    refused = {}
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        if method.client_streaming or method.name == "ModelInfer":
            continue
        try:
            getattr(stub, method.name)(getattr(pb, method.input_type.name)(), timeout=10)
        except grpc.RpcError as error:
            refused[method.name] = error.code()
    assert refused == dict.fromkeys(
        (
            "RepositoryModelLoad",
            "RepositoryModelUnload",
            "SystemSharedMemoryRegister",
            "CudaSharedMemoryRegister",
        ),
        grpc.StatusCode.UNIMPLEMENTED,
    )


def test_health_speaks_for_the_service(stub):
    check = health_pb2_grpc.HealthStub(stub.channel).Check
    answer = check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_it_is_counted_and_logged_as_any_request(start, truth):
    server = start("--log-format", "json", "--access-log", "all", "--workers", "2")
    with grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        assert SERVICE not in server.metrics()  # what nobody calls is not published
        stub.ModelInfer(infer_request(truth.rows[:9], id="r7"), timeout=10)
        with RankerClient(server.address, timeout=PATIENCE) as client:
            client.rank(truth.rows[:4])
        first, second = wait_for_lines(server, 2)
        assert (first["request_id"], first["candidates"], first["model"]) == ("r7", 9, "books")
        assert second["candidates"] == 4
        assert server.metric("ranker_requests_total", code="OK") == 2
        method = f"{SERVICE}/ModelInfer"
        assert server.metric("ranker_rpcs_total", method=method, code="OK") == 1
        # Of both workers, whichever is asked.
        [stats] = stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=10).model_stats
        assert stats.inference_count == 2


def as_json(rows: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in rows.tolist()]


def body(rows: np.ndarray, **fields) -> dict[str, object]:
    tensor = {"name": "candidates", "shape": list(rows.shape), "datatype": "FP32"}
    return {"inputs": [{**tensor, "data": as_json(rows)}], **fields}


@pytest.mark.parametrize("path", [f"{MODEL}/infer", f"{MODEL}/versions/7/infer"])
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_over_http_scores_are_xgboosts(server, truth, path, binary):
    rows = truth.rows[:60]
    headers = {"Content-Type": "application/json"}
    if binary:
        tensor = {"name": "candidates", "shape": list(rows.shape), "datatype": "FP32"}
        tensor["parameters"] = {"binary_data_size": rows.nbytes}
        text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        answer = ask(server.http_port, path, text + rows.tobytes(), headers=headers)
        length = int(answer.headers["inference-header-content-length"])
        written = json.loads(answer.body[:length])
        assert [o["parameters"]["binary_data_size"] for o in written["outputs"]] == [240, 480]
        scores = np.frombuffer(answer.body[length : length + 240], "<f4")
        indices = np.frombuffer(answer.body[length + 240 :], "<i8").tolist()
    else:
        answer = ask(server.http_port, path, body(rows, id="r7"))
        written = answer.json
        assert written["id"] == "r7"
        scores, indices = (output["data"] for output in written["outputs"])
    assert (written["model_name"], written["model_version"]) == ("books", "7")
    expected = truth.scores(rows)
    same_bits(np.float32(scores), expected)
    assert indices == np.argsort(-expected, kind="stable").tolist()


def test_top_k_over_http(server, truth):
    rows = truth.rows[:20]
    request = body(rows, parameters={"top_k": 3}, outputs=[{"name": "indices"}])
    [output] = ask(server.http_port, f"{MODEL}/infer", request).json["outputs"]
    assert output["data"] == np.argsort(-truth.scores(rows), kind="stable")[:3].tolist()
    assert output["shape"] == [3]


ROWS = np.zeros((2, 12), np.float32)


@pytest.mark.parametrize(
    ("path", "request_", "status", "text"),
    [
        pytest.param(f"{MODEL}/infer", b"{", 400, "not JSON", id="garbage"),
        pytest.param(f"{MODEL}/infer", body(ROWS[:, :3]), 400, "[n, 12]", id="features"),
        pytest.param("/v2/models/songs/infer", body(ROWS), 404, "no model songs", id="model"),
        pytest.param("/v2/models/songs", None, 404, "no model songs", id="metadata"),
        pytest.param("/v2/models/songs/ready", None, 404, "no model songs", id="ready"),
        pytest.param("/v2/nothing", None, 404, "Not Found", id="page"),
        pytest.param(f"{MODEL}/infer", None, 405, "Method", id="method"),
        pytest.param(f"{MODEL}/infer", b" " * 2**21 + b"{}", 413, "too large", id="large"),
        pytest.param(
            "/v2/systemsharedmemory/region/a/register", b"{}", 501, "shared memory", id="shared"
        ),
    ],
)
def test_errors_over_http_are_the_protocols(server, path, request_, status, text):
    answer = ask(server.http_port, path, request_)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == ["error"]
    assert text in answer.json["error"]


@pytest.mark.parametrize("length", ["-1", "x", "9999999", "1" * 5000])
def test_a_wrong_length_of_the_json_is_refused(server, length):
    headers = {"Inference-Header-Content-Length": length}
    answer = ask(server.http_port, f"{MODEL}/infer", b"{}", headers=headers)
    assert answer.status == 400
    assert "Inference-Header-Content-Length" in answer.json["error"]


def test_pages_that_describe(server):
    port = server.http_port
    metadata = ask(port, "/v2").json
    assert (metadata["name"], metadata["version"]) == ("ranker", distribution.version())
    assert ask(port, "/v2/health/live").json == {"live": True}
    assert ask(port, "/v2/health/ready").json == {"ready": True}
    assert ask(port, f"{MODEL}/ready").json == {"name": "books", "ready": True}
    assert ask(port, MODEL).json["inputs"] == [
        {"name": "candidates", "datatype": "FP32", "shape": [-1, len(NAMES)]}
    ]
    assert ask(port, f"{MODEL}/versions/7/config").json["max_batch_size"] == 0
    [stats] = ask(port, "/v2/models/stats").json["model_stats"]
    assert stats["name"] == "books"
    assert ask(port, "/v2/repository/index", b"").json == [
        {"name": "books", "version": "7", "state": "READY", "reason": ""}
    ]
