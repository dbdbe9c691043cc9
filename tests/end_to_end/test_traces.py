"""A caller's trace leads from its request to what the server says of it."""

from __future__ import annotations

import json
import secrets
import urllib.request
from contextlib import closing

import grpc
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ranker.client import RankerClient
from ranker.errors import RankerError
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.broken_server import BROKEN
from tests.end_to_end.conftest import NAMES, Broken
from tests.end_to_end.test_status_page import Events
from tests.waiting import PATIENCE

RANK = "/ranker.v1.RankingService/Rank"
SPAN = "00f067aa0ba902b7"


def traced(channel: grpc.Channel, request: pb.RankRequest, trace: str) -> grpc.Future:
    """A `Rank` of that trace, when it is over."""
    metadata = [("traceparent", f"00-{trace}-{SPAN}-01")]
    call = channel.unary_unary(RANK).future(request.SerializeToString(), metadata=metadata)
    call.code()
    return call


def request(first: float, request_id: str = "") -> pb.RankRequest:
    data = np.full(len(NAMES), first, "<f4").tobytes()
    matrix = pb.Matrix(rows=1, columns=len(NAMES), data=data)
    return pb.RankRequest(candidates=matrix, request_id=request_id)


def test_a_request_is_the_exemplar_of_its_latency(server):
    trace = secrets.token_hex(16)
    with grpc.insecure_channel(server.address) as channel:
        assert traced(channel, request(1.0), trace).code() is grpc.StatusCode.OK
    page = urllib.request.Request(
        f"http://127.0.0.1:{server.metrics_port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    with urllib.request.urlopen(page) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        [(sample, exemplar)] = [
            (sample, sample.exemplar)
            for family in families
            for sample in family.samples
            if sample.exemplar and sample.exemplar.labels == {"trace_id": trace}
        ]
    assert sample.name == "ranker_request_duration_seconds_bucket"
    assert sample.labels["outcome"] == "ok"
    assert 0 < exemplar.value <= float(sample.labels["le"])


def test_a_bug_is_in_the_log_with_the_trace_and_on_the_page_without_features(start):
    server = start("--log-format", "json", kind=Broken)
    requests = {
        secrets.token_hex(16): request(BROKEN, "scoring"),
        secrets.token_hex(16): request(1.0, "reading"),
        secrets.token_hex(16): request(1.0, "answering"),
    }
    with grpc.insecure_channel(server.address) as channel:
        calls = {trace: traced(channel, bad, trace) for trace, bad in requests.items()}
        assert traced(channel, request(1.0), secrets.token_hex(16)).code() is grpc.StatusCode.OK
    log = server.log.read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    errors = [entry for entry in entries if entry["severity"] == "ERROR"]
    for trace, call in calls.items():
        assert call.code() is grpc.StatusCode.INTERNAL
        assert "a bug" not in call.details()
        mark = call.details()[-9:-1]
        [of_trace] = [e for e in errors if e.get("logging.googleapis.com/trace") == trace]
        assert f"[{mark}]" in of_trace["message"]
        assert of_trace["logging.googleapis.com/spanId"] == SPAN
        [of_bug] = [e for e in errors if e.get("incident") == mark]
        assert "RuntimeError: a bug" in of_bug["stack_trace"]
    assert str(BROKEN) not in log
    assert server.metric("ranker_requests_total", code="INTERNAL", model="books") == len(requests)
    rows = np.full((1, len(NAMES)), BROKEN, np.float32)
    with (
        RankerClient(server.address, timeout=PATIENCE) as client,
        pytest.raises(RankerError) as caught,
    ):
        client.rank(rows)

    def shown(errors) -> list[dict[str, str]]:
        return [bug for bug in errors["incidents"] if f"[{bug['incident']}]" in str(caught.value)]

    with closing(Events(server.http_port)) as events:
        errors = events.until("errors", shown)
    [bug] = shown(errors)
    assert (bug["what"], bug["process"]) == ("scoring failed", "worker 0")
    assert str(BROKEN) not in json.dumps(errors)
