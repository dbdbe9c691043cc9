"""An OpenTelemetry collector's receiver of traces: OTLP over HTTP, on loopback."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Received:
    """A span as it has arrived, and the attributes of who sent it."""

    span: Span
    resource: dict[str, object]

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def attributes(self) -> dict[str, object]:
        return facts(self.span.attributes)

    @property
    def links(self) -> list[tuple[str, str]]:
        return [(link.trace_id.hex(), link.span_id.hex()) for link in self.span.links]

    @property
    def seconds(self) -> float:
        return (self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e9


def facts(pairs: list[KeyValue]) -> dict[str, object]:
    """Attributes by name."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class LocalCollector:
    """Takes spans in.

    Attributes:
        requests: how many posts have come.
        status: what they are answered with.
        rejects: how many spans of each it says not to have taken.
        retry_after: the seconds that it asks to be left alone for; 0: it does not.
        headers: those of the last one.
        hold: called before an answer.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.status = 200
        self.rejects = self.retry_after = 0
        self.headers: dict[str, str] = {}
        self.hold: Callable[[], object] = lambda: None
        self._lock = Lock()
        self._received: list[Received] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers = dict(self.headers)
                collector.hold()
                collector.take(ExportTraceServiceRequest.FromString(body))
                partly = {"rejected_spans": collector.rejects, "error_message": "too many"}
                taken = ExportTraceServiceResponse(
                    partial_success=partly if collector.rejects else {}
                )
                answer = taken.SerializeToString()
                self.send_response(collector.status)
                if collector.retry_after:
                    self.send_header("Retry-After", str(collector.retry_after))
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        with self._lock:
            self.requests += 1
            if self.status != 200:
                return
            for of_resource in request.resource_spans:
                sender = facts(of_resource.resource.attributes)
                for of_scope in of_resource.scope_spans:
                    assert of_scope.scope.name == "ranker"
                    self._received += [Received(span, sender) for span in of_scope.spans]

    def spans(self) -> list[Received]:
        """All that has arrived so far."""
        with self._lock:
            return list(self._received)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
