"""What a traced request becomes: its span, two children if it was scored, and its batch's span.

OTLP's own messages are filled: the SDK's spans, and the messages that it makes of these, take
several times as long.

Names of the attributes: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/; what is the
server's own has the names of the access log, after `ranker.`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags, Status
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from ranker.distribution import version
from ranker.errors import Code
from ranker.metrics.log_entry import LogEntry

_FAULTS = frozenset(
    {
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    }
)
"""The codes by which a server's span is an error; with all others it is the caller's."""

_BATCHES = 256
"""So many batches are remembered: whoever else was in one of them is linked to the same span."""

_KINDS = 1024
"""So many kinds of requests are remembered, with what is said of all requests of a kind."""

_PEERS = 4096
"""So many connections are remembered, with what is said of where they come from."""

_TRACE_ID = slice(3, 35)
_SPAN_ID = slice(36, 52)
"""Where a valid `traceparent` has them: https://www.w3.org/TR/trace-context/#traceparent-header."""

_LOCAL = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
"""Whether a span's parent, or what a link leads to, is in another process."""


def resource() -> dict[str, Any]:
    """Who sends the spans; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before our own."""
    own = {"service.name": "ranker", "service.version": version()}
    found = Resource.create({**own, **OTELResourceDetector().detect().attributes})
    return dict(found.attributes)


class Spans:
    """Makes spans of log entries."""

    def __init__(self) -> None:
        self._resource = _pairs(resource())
        self._version = version()
        self._batches: dict[tuple[str, float], tuple[bytes, bytes]] = {}

    def message(self, requests: Iterable[tuple[str, LogEntry]]) -> tuple[bytes, int]:
        """What a collector is sent.

        Args:
            requests: those that are traced, each with the worker that has answered it.

        Returns:
            OTLP's message, and how many spans it has.
        """
        message = ExportTraceServiceRequest()
        of_resource = message.resource_spans.add(resource={"attributes": self._resource})
        of_scope = of_resource.scope_spans.add(scope={"name": "ranker", "version": self._version})
        for worker, entry in requests:
            self.add(of_scope, worker, entry)
        return message.SerializeToString(), len(of_scope.spans)

    def add(self, into: ScopeSpans, worker: str, entry: LogEntry) -> None:
        """Adds the spans of a request.

        Args:
            into: what has spans.
            worker: who has answered it.
            entry: a request that is traced.
        """
        add, parent = into.spans.add, entry.traceparent
        assert entry.span is not None
        trace_id = bytes.fromhex(entry.span[_TRACE_ID])
        span_id = bytes.fromhex(entry.span[_SPAN_ID])
        epoch = entry.at - entry.ended  # when the worker's clock was 0
        batch, links = entry.batch, []
        if batch is not None:
            rows, requests, began, scored = batch
            key = worker, began
            batch_ids = self._batches.get(key)
            if batch_ids is None:
                batch_ids = self._batches[key] = _random_id(16), _random_id(8)
                if len(self._batches) > _BATCHES:
                    del self._batches[next(iter(self._batches))]
                add(
                    trace_id=batch_ids[0],
                    span_id=batch_ids[1],
                    flags=_LOCAL,
                    name="batch",
                    kind=Span.SPAN_KIND_INTERNAL,
                    start_time_unix_nano=_nanoseconds(epoch, began),
                    end_time_unix_nano=_nanoseconds(epoch, scored),
                    attributes=_pairs(
                        {
                            "ranker.model": entry.model,
                            "ranker.version": entry.version,
                            "ranker.batch.candidates": rows,
                            "ranker.batch.requests": requests,
                            "ranker.worker": worker,
                        }
                    ),
                )
            links.append({"trace_id": batch_ids[0], "span_id": batch_ids[1], "flags": _LOCAL})
            waited = entry.arrived + entry.queued
            for name, start, end in (
                ("queue", entry.arrived, waited),
                ("scoring", waited, scored),
            ):
                add(
                    trace_id=trace_id,
                    span_id=_random_id(8),
                    parent_span_id=span_id,
                    flags=_LOCAL,
                    name=name,
                    kind=Span.SPAN_KIND_INTERNAL,
                    start_time_unix_nano=_nanoseconds(epoch, start),
                    end_time_unix_nano=_nanoseconds(epoch, end),
                )
        span = add(
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=b"" if parent is None else bytes.fromhex(parent[_SPAN_ID]),
            flags=_LOCAL if parent is None else _REMOTE,
            start_time_unix_nano=_nanoseconds(epoch, entry.arrived),
            end_time_unix_nano=_nanoseconds(epoch, entry.ended),
            attributes=_pairs(
                {"ranker.candidates": entry.rows, "ranker.request_id": entry.request_id}
            ),
            links=links,
        )
        kind = _of_kind(entry.method, entry.code, entry.model, entry.version, worker)
        span.MergeFromString(kind + _of_peer(entry.peer))


@lru_cache(_KINDS)
def _of_kind(method: str, code: int, model: str, version: str, worker: str) -> bytes:
    """What the spans of all requests of a kind have in common, as a part of a message."""
    name = Code(code).name
    said = {
        "rpc.system.name": "grpc",
        "rpc.method": method.removeprefix("/"),
        "rpc.response.status_code": name,
        "ranker.model": model,
        "ranker.version": version,
        "ranker.worker": worker,
    }
    faulty = code in _FAULTS
    if faulty:
        said["error.type"] = name
    return Span(
        name=method.removeprefix("/"),
        kind=Span.SPAN_KIND_SERVER,
        attributes=_pairs(said),
        status=Status(code=Status.STATUS_CODE_ERROR) if faulty else None,
    ).SerializeToString()


@lru_cache(_PEERS)
def _of_peer(peer: str) -> bytes:
    """Where requests of a connection come from, as a part of a span; empty if that is no address.

    gRPC's names: https://grpc.github.io/grpc/core/md_doc_naming.html
    """
    kind, _, where = unquote(peer).partition(":")
    address, _, port = where.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return b""
    said = {"network.peer.address": address.strip("[]"), "network.peer.port": int(port)}
    return Span(attributes=_pairs(said)).SerializeToString()


def _random_id(size: int) -> bytes:
    return (random.getrandbits(8 * size) or 1).to_bytes(size, "big")


def _nanoseconds(epoch: float, at: float) -> int:
    return round((epoch + at) * 1e9)


def _pairs(attributes: Mapping[str, Any]) -> list[Any]:
    """Attributes as OTLP has them. Protobuf makes messages of dictionaries faster than we can."""
    return [
        {"key": key, "value": {"int_value" if type(value) is int else "string_value": value}}
        for key, value in attributes.items()
    ]
