"""What a traced request becomes: its span, two children if it was scored, and its batch's span.

Names of the attributes: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/; what is the
server's own has the names of the access log, after `ranker.`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from urllib.parse import unquote

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from ranker.distribution import version
from ranker.errors import Code
from ranker.metrics.log_entry import LogEntry
from ranker.metrics.trace import Trace, parse_traceparent

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)

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


class Sender(Resource):
    """Who sends spans. The SDK looks it up for each of them, by a hash that it makes anew."""

    def __hash__(self) -> int:
        """By identity: there is one."""
        return id(self)


def resource() -> Resource:
    """Who sends the spans; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before our own."""
    own = {"service.name": "ranker", "service.version": version()}
    found = Resource.create({**own, **OTELResourceDetector().detect().attributes})
    return Sender(found.attributes, found.schema_url)


class Spans:
    """Makes spans of log entries.

    The SDK's own tracers time what they span, and draw its ids; here both are known already.
    So each span is made as the SDK's exporters read them.
    """

    def __init__(self) -> None:
        self._resource = resource()
        self._scope = InstrumentationScope("ranker", version())
        self._batches: dict[tuple[str, float], SpanContext] = {}

    def of(self, worker: str, entry: LogEntry) -> Iterator[ReadableSpan]:
        """The spans of a request.

        Args:
            worker: who has answered it.
            entry: a request that is traced.
        """
        assert entry.span is not None
        own = parse_traceparent(entry.span)
        assert own is not None
        context = _context(own)
        parent = None if entry.traceparent is None else parse_traceparent(entry.traceparent)
        epoch = entry.at - entry.ended  # when the worker's clock was 0
        batch, links = entry.batch, []
        if batch is not None:
            _, _, began, scored = batch
            key = worker, began
            if key not in self._batches:
                self._batches[key] = _child(random.getrandbits(128) or 1)
                if len(self._batches) > _BATCHES:
                    del self._batches[next(iter(self._batches))]
                yield self._batch(worker, entry, epoch)
            links = [Link(self._batches[key])]
            waited = entry.arrived + entry.queued
            trace_id = context.trace_id
            yield self._span("queue", _child(trace_id), context, epoch, entry.arrived, waited)
            yield self._span("scoring", _child(trace_id), context, epoch, waited, scored)
        yield self._span(
            entry.method.removeprefix("/"),
            context,
            None if parent is None else _context(parent, is_remote=True),
            epoch,
            entry.arrived,
            entry.ended,
            attributes=attributes(worker, entry),
            links=links,
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR) if entry.code in _FAULTS else _UNSET,
        )

    def _batch(self, worker: str, entry: LogEntry, epoch: float) -> ReadableSpan:
        """The span of a request's batch, in a trace of its own."""
        assert entry.batch is not None
        rows, requests, began, scored = entry.batch
        facts: dict[str, str | int] = {
            "ranker.model": entry.model,
            "ranker.version": entry.version,
            "ranker.batch.candidates": rows,
            "ranker.batch.requests": requests,
            "ranker.worker": worker,
        }
        context = self._batches[worker, began]
        return self._span("batch", context, None, epoch, began, scored, attributes=facts)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        epoch: float,
        began: float,
        ended: float,
        *,
        attributes: dict[str, str | int] | None = None,
        links: list[Link] | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status = _UNSET,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            links=links or (),
            kind=kind,
            status=status,
            start_time=round((epoch + began) * 1e9),
            end_time=round((epoch + ended) * 1e9),
            instrumentation_scope=self._scope,
        )


def attributes(worker: str, entry: LogEntry) -> dict[str, str | int]:
    """What is said of a request."""
    code = Code(entry.code).name
    said: dict[str, str | int] = {
        "rpc.system.name": "grpc",
        "rpc.method": entry.method.removeprefix("/"),
        "rpc.response.status_code": code,
        "ranker.model": entry.model,
        "ranker.version": entry.version,
        "ranker.candidates": entry.rows,
        "ranker.request_id": entry.request_id,
        "ranker.worker": worker,
    }
    if entry.code in _FAULTS:
        said["error.type"] = code
    # gRPC's names: https://grpc.github.io/grpc/core/md_doc_naming.html
    kind, _, where = unquote(entry.peer).partition(":")
    address, _, port = where.rpartition(":")
    if kind in ("ipv4", "ipv6") and port.isdigit():
        said |= {"network.peer.address": address.strip("[]"), "network.peer.port": int(port)}
    return said


def _context(trace: Trace, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), is_remote, _SAMPLED)


def _child(trace_id: int) -> SpanContext:
    """A new span in a trace."""
    return SpanContext(trace_id, random.getrandbits(64) or 1, is_remote=False, trace_flags=_SAMPLED)
