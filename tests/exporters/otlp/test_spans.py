"""What a traced request's spans say."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from exporters.otlp.spans import Spans, resource
from ranker.errors import Code
from ranker.metrics.log_entry import LogEntry
from tests.exporters.otlp.collector import Received
from tests.metrics.support import RANK

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER, OWN = "00f067aa0ba902b7", "b7ad6b7169203331"

IS_REMOTE_IS_KNOWN, IS_REMOTE = 0x100, 0x200
"""Bits of a span's flags, by OTLP."""

SCORED = LogEntry(
    at=1_764_000_000.0,
    code=0,
    logged=False,
    method=RANK,
    request_id="a7",
    model="books",
    version="7",
    rows=100,
    arrived=50.0,
    ended=50.5,
    queued=0.125,
    scoring=0.25,
    batch=(300, 3, 50.125, 50.375),
    traceparent=f"00-{TRACE}-{CALLER}-01",
    span=f"00-{TRACE}-{OWN}-01",
    peer="ipv4:10.0.0.7:36240",
    caller="",
)


def of(entry: LogEntry, spans: Spans | None = None) -> dict[str, Received]:
    message, count = (spans or Spans()).message([("0", entry)])
    [of_resource] = ExportTraceServiceRequest.FromString(message).resource_spans
    [of_scope] = of_resource.scope_spans
    assert len(of_scope.spans) == count
    return {span.name: Received(span, {}) for span in of_scope.spans}


def times(received: Received) -> tuple[float, float]:
    """When it began and ended, in seconds before the end of `SCORED`."""
    end, span = int(SCORED.at * 1e9), received.span
    return (end - span.start_time_unix_nano) / 1e9, (end - span.end_time_unix_nano) / 1e9


def test_a_request_is_a_child_of_its_callers_span_and_has_a_wait_and_a_scoring():
    spans = of(SCORED)
    request, queue, scoring, batch = (
        spans[name] for name in ("ranker.v1.RankingService/Rank", "queue", "scoring", "batch")
    )
    assert request.span.kind == Span.SPAN_KIND_SERVER
    assert (request.span_id, request.parent) == (OWN, CALLER)
    assert request.span.flags == IS_REMOTE_IS_KNOWN | IS_REMOTE
    for child in (queue, scoring):
        assert child.parent == OWN
        assert child.span.flags == IS_REMOTE_IS_KNOWN
    for span in (request, queue, scoring):
        assert span.trace_id == TRACE
    assert len({span.span_id for span in spans.values()}) == 4
    expected = {"request": (0.5, 0.0), "queue": (0.5, 0.375), "scored": (0.375, 0.125)}
    found = {"request": request, "queue": queue, "scored": scoring}
    for name, span in found.items():
        assert times(span) == pytest.approx(expected[name], abs=1e-6)  # a double has a quarter
    assert times(batch) == pytest.approx(expected["scored"], abs=1e-6)
    assert request.links == [(batch.trace_id, batch.span_id)]
    assert batch.parent == ""
    assert batch.trace_id != TRACE
    assert batch.attributes == {
        "ranker.model": "books",
        "ranker.version": "7",
        "ranker.batch.candidates": 300,
        "ranker.batch.requests": 3,
        "ranker.worker": "0",
    }


def test_a_request_has_the_names_of_the_conventions_and_of_the_access_log():
    assert of(SCORED)[RANK[1:]].attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "ranker.v1.RankingService/Rank",
        "rpc.response.status_code": "OK",
        "ranker.model": "books",
        "ranker.version": "7",
        "ranker.candidates": 100,
        "ranker.request_id": "a7",
        "ranker.worker": "0",
        "network.peer.address": "10.0.0.7",
        "network.peer.port": 36240,
    }


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:36240", "10.0.0.7"),
        ("ipv6:[::1]:36240", "::1"),
        ("ipv6:%5B::1%5D:36240", "::1"),
        ("unix:/run/ranker.sock", None),
        ("", None),
    ],
    ids=["v4", "v6", "v6-encoded", "unix", "gone"],
)
def test_a_connection_has_an_address_if_it_is_of_the_network(peer, address):
    said = of(SCORED._replace(peer=peer))[RANK[1:]].attributes
    assert said.get("network.peer.address") == address
    assert ("network.peer.port" in said) == (address is not None)


def test_requests_of_one_batch_are_linked_to_one_span():
    spans = Spans()
    first = of(SCORED, spans)
    second = of(SCORED._replace(span=f"00-{'1' * 32}-{OWN}-01", traceparent=None), spans)
    assert "batch" not in second
    batch = first["batch"]
    for request in (first[RANK[1:]], second[RANK[1:]]):
        assert request.links == [(batch.trace_id, batch.span_id)]
    other = of(SCORED._replace(batch=(300, 3, 60.0, 60.1)), spans)
    assert other["batch"].span_id != batch.span_id


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param(Code.INTERNAL, Status.STATUS_CODE_ERROR, id="the-servers-fault"),
        pytest.param(Code.INVALID_ARGUMENT, Status.STATUS_CODE_UNSET, id="the-callers-fault"),
    ],
)
def test_a_request_that_was_not_scored_is_one_span(code, status):
    spans = of(SCORED._replace(code=int(code), batch=None, traceparent=None))
    [request] = spans.values()
    assert (request.parent, request.links) == ("", [])
    assert request.span.status.code == status
    assert request.attributes["rpc.response.status_code"] == code.name
    is_error = status == Status.STATUS_CODE_ERROR
    assert request.attributes.get("error.type") == (code.name if is_error else None)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        pytest.param({}, "ranker", id="ours"),
        pytest.param({"OTEL_SERVICE_NAME": "books-ranker"}, "books-ranker", id="its-own-variable"),
        pytest.param({"OTEL_RESOURCE_ATTRIBUTES": "service.name=b,k=v"}, "b", id="an-attribute"),
    ],
)
def test_the_environment_names_the_service(monkeypatch, variables, name):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert resource()["service.name"] == name
    assert ("k" in resource()) == ("OTEL_RESOURCE_ATTRIBUTES" in variables)
