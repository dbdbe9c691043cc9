"""A server's spans, as a collector gets them: one tree with its caller's, its log and metrics."""

from __future__ import annotations

import secrets
import time

import grpc
import numpy as np
import pytest

from ranker.client import RankerClient
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import NAMES, RunningServer, on_one_transport
from tests.end_to_end.test_access_log import wait_for_lines
from tests.end_to_end.test_traces import RANK, SPAN, request, traced

pytest.importorskip("opentelemetry.sdk")

from tests.exporters.otlp.collector import LocalCollector, Received
from tests.waiting import PATIENCE, wait_until

STREAM = "/ranker.v1.RankingService/RankStream"


@pytest.fixture(scope="module")
def collector():
    collector = LocalCollector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def server(truth, transport, collector, tmp_path_factory):
    log = tmp_path_factory.mktemp("traced") / "log"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(PATIENCE))
        running = RunningServer(
            *(log, str(truth.path), "--transport", transport),
            *("--log-format", "json", "--access-log", "all"),
            *("--trace-endpoint", collector.endpoint, "--trace-rate", "0"),
        )
    yield running
    assert running.stop() == 0, log.read_text()


def spans_of(collector: LocalCollector, trace: str, count: int) -> dict[str, Received]:
    """The spans of a trace by their names, once so many have arrived."""
    wait_until(lambda: len([s for s in collector.spans() if s.trace_id == trace]) >= count)
    return {span.name: span for span in collector.spans() if span.trace_id == trace}


def test_a_ranking_is_a_span_in_its_callers_trace(server, collector):
    trace = secrets.token_hex(16)
    began = time.time()
    with grpc.insecure_channel(server.address) as channel:
        assert traced(channel, request(1.0, "a7"), trace).code() is grpc.StatusCode.OK
    ended = time.time()
    spans = spans_of(collector, trace, 3)
    ranked, queue, scoring = (spans[name] for name in (RANK[1:], "queue", "scoring"))
    assert (ranked.parent, queue.parent, scoring.parent) == (SPAN, ranked.span_id, ranked.span_id)
    assert began <= ranked.span.start_time_unix_nano / 1e9 <= ended
    assert began <= ranked.span.end_time_unix_nano / 1e9 <= ended
    assert 0 < queue.seconds + scoring.seconds < ranked.seconds < 5
    assert ranked.attributes["rpc.response.status_code"] == "OK"
    assert ranked.resource["service.name"] == "ranker"

    [link] = ranked.links
    [batch] = [span for span in collector.spans() if (span.trace_id, span.span_id) == link]
    assert (batch.name, batch.attributes["ranker.batch.candidates"]) == ("batch", 1)

    [line] = [e for e in wait_for_lines(server, 1) if e["request_id"] == "a7"]
    assert line["logging.googleapis.com/trace"] == trace
    assert line["logging.googleapis.com/spanId"] == ranked.span_id
    assert line["model"] == ranked.attributes["ranker.model"] == "books"
    assert line["peer"].endswith(f":{ranked.attributes['network.peer.port']}")


def test_what_its_caller_does_not_record_has_no_span(server, collector):
    trace, later = (secrets.token_hex(16) for _ in range(2))
    with grpc.insecure_channel(server.address) as channel:
        metadata = [("traceparent", f"00-{trace}-{SPAN}-00")]
        call = channel.unary_unary(RANK).future(request(1.0).SerializeToString(), metadata=metadata)
        assert call.code() is grpc.StatusCode.OK
        traced(channel, request(1.0), later)
    spans_of(collector, later, 3)
    assert trace not in {span.trace_id for span in collector.spans()}


def test_a_refusal_is_a_span_and_a_stream_has_one_for_each_list(server, collector):
    refused, streamed = (secrets.token_hex(16) for _ in range(2))
    with grpc.insecure_channel(server.address) as channel:
        code = traced(channel, pb.RankRequest(model="films"), refused).code()
        assert code is grpc.StatusCode.NOT_FOUND
        metadata = [("traceparent", f"00-{streamed}-{SPAN}-01")]
        requests = [request(1.0, name).SerializeToString() for name in ("s1", "s2")]
        answers = list(channel.stream_stream(STREAM)(iter(requests), metadata=metadata))
    assert len(answers) == 2
    [span] = spans_of(collector, refused, 1).values()
    assert span.attributes["rpc.response.status_code"] == "NOT_FOUND"
    spans_of(collector, streamed, 6)
    lists = [s for s in collector.spans() if (s.trace_id, s.name) == (streamed, STREAM[1:])]
    assert {span.attributes["ranker.request_id"] for span in lists} == {"s1", "s2"}


@on_one_transport
def test_a_collector_that_hangs_or_is_away_disturbs_no_request(server, collector):
    rows, begin = np.ones((3, len(NAMES)), np.float32), len(server.log.read_text())
    sent, before = collector.requests, server.metric("ranker_trace_spans_total", outcome="failed")
    collector.status = 400
    with grpc.insecure_channel(server.address) as channel:
        traced(channel, request(1.0), secrets.token_hex(16))
    wait_until(lambda: server.metric("ranker_trace_spans_total", outcome="failed") > before)
    collector.hold = lambda: time.sleep(1)
    with grpc.insecure_channel(server.address) as channel:
        traced(channel, request(1.0), secrets.token_hex(16))
        with RankerClient(server.address, timeout=PATIENCE) as client:
            for _ in range(100):
                client.rank(rows)
    collector.hold, collector.status = (lambda: None), 200
    assert collector.requests > sent
    assert server.log.read_text()[begin:].count("sending traces failed") == 1
