"""What a worker tells the office of a request that has ended: a line of the log, spans, or both."""

from __future__ import annotations

from typing import NamedTuple

from ranker.errors import Code
from ranker.logs import labels_of, time_of, trace_fields
from ranker.metrics.trace import parse_traceparent

ScoredBatch = tuple[int, int, float, float]
"""A batch that was scored: how many candidates, of how many requests; when it began, and ended."""


class LogEntry(NamedTuple):
    """A ranking request that has ended. It travels as a plain tuple.

    Attributes:
        at: when it ended, in seconds since the Unix epoch.
        code: how it ended.
        logged: whether it gets a line in the access log.
        method: the full method name, `/package.Service/Method`.
        request_id: the caller's own mark; empty if there is none, or it was not read.
        model: its model's name.
        version: and the version.
        rows: how many candidates it held; 0 if that was never known.
        arrived: when it came; in seconds, on the worker's own clock, as all that follows.
        ended: when it ended.
        queued: how long it waited for its first batch; 0 if it was never scored.
        scoring: how long its batches were scored; likewise.
        batch: the last of them; None: it was never scored.
        traceparent: the W3C trace context that its caller sent, not checked; None: none.
        span: its own, if it is traced.
        peer: its caller's connection, over HTTP that to the office; empty if it is gone.
        caller: the name of who asked, as its certificate has it; empty: it has none.
    """

    at: float
    code: int
    logged: bool
    method: str
    request_id: str
    model: str
    version: str
    rows: int
    arrived: float
    ended: float
    queued: float
    scoring: float
    batch: ScoredBatch | None
    traceparent: str | None
    span: str | None
    peer: str
    caller: str

    def spans(self) -> int:
        """How many spans it becomes, if it is traced, beside that of its batch."""
        return 1 if self.batch is None else 3


def as_json(worker: str, entry: LogEntry, project: str) -> dict[str, object]:
    """What a line of the access log says.

    Args:
        worker: who has answered.
        entry: what it has noted.
        project: the GCP project that traces belong to; empty if there is none.
    """
    code = Code(entry.code).name
    line: dict[str, object] = {
        "severity": "WARNING" if entry.code else "INFO",
        "time": time_of(entry.at),
        "message": f"ranking request: {code}",
        "logger": "ranker.access",
        "request_id": entry.request_id,
        "model": entry.model,
        "version": entry.version,
        "candidates": entry.rows,
        "code": code,
        "queue_seconds": round(entry.queued, 6),
        "scoring_seconds": round(entry.scoring, 6),
        "total_seconds": round(entry.ended - entry.arrived, 6),
        "peer": entry.peer,
    }
    if entry.caller:
        line["caller"] = entry.caller
    context = entry.span or entry.traceparent
    trace = None if context is None else parse_traceparent(context)
    if trace is not None:
        line |= trace_fields(trace, project)
    return line | labels_of(worker)
