"""The access log: one line of JSON for each ranking request that has ended.

A worker notes a few values of each request (`AccessLog`) and sends them on, many at a time,
to the office, which writes the lines (`AccessLogWriter`). The connection is a pair of datagram
sockets that the supervisor keeps, so that either end may die and come back. A worker never
waits for it: what does not fit is lost, and counted.

A line never holds features or scores.
"""

from __future__ import annotations

import json
import logging
import marshal
import math
import os
import random
import socket
import time
import zlib
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Any, Protocol

from ranker.errors import Code
from ranker.incident import guard
from ranker.logs import labels_of, time_of, trace_fields
from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import Name
from ranker.metrics.trace import parse_traceparent

logger = logging.getLogger(__name__)

MODES = ("off", "errors", "sampled", "all")
"""What is logged; each has all that the one before it has."""

ERRORS_PER_SECOND = 50
"""Errors that each worker logs in one second, unless all requests are logged: an overloaded server
refuses thousands."""

_BUFFER_BYTES = 2**20
"""What may be on its way to the office: a second or so of a busy worker."""

_MOST_ENTRIES = 64
"""Requests in one packet at most."""

_MOST_CHARACTERS = 128
"""Of a text that a caller chose. A packet is thus of 64 KiB at most."""

_TRACEPARENT = slice(55)
_TRACE_ID = slice(3, 35)
"""What is read of a `traceparent` header: https://www.w3.org/TR/trace-context/#traceparent-header."""

_MOST_PACKET_BYTES = 2**17

_CLOSING_SECONDS = 1.0
"""What whoever reads the lines has for the last of them."""


class NamedCaller(Protocol):
    """Who asked."""

    @property
    def name(self) -> str:
        """Its name; empty if it has none."""


class LoggedRequest(Protocol):
    """A ranking request that is over. All times are in seconds, on one clock."""

    request_id: str
    """The caller's own mark; empty if there is none, or it was not read."""
    rows: int
    """How many candidates it held; 0 if that was never known."""
    arrived: float
    ended: float
    queued: float
    """How long it waited for its first batch; 0 if it was never scored."""
    scoring: float
    """How long its batches were scored; likewise."""
    traceparent: str | None

    @property
    def caller(self) -> NamedCaller | None:
        """Who asked, if that has been found out."""

    def connection(self) -> str:
        """The connection that it came on; empty if that is gone."""


class ErrorSink(Protocol):
    """Who is told of errors as the office hears of them, on a thread of its own."""

    def add_request(self, line: Mapping[str, object]) -> None:
        """A request that failed: its line of the log."""

    def add_incident(self, time: str, incident: str, what: str, process: str) -> None:
        """A bug that a process has logged under an id."""


class DriftSink(Protocol):
    """Who is told, on that thread too, of what workers count of features."""

    def add(self, entries: Sequence[Any]) -> None:
        """Some counts; see `ranker.metrics.drift_log`."""

    def serve(self, entries: Sequence[Any]) -> None:
        """The models that a worker serves from now on."""


def connect() -> tuple[socket.socket, socket.socket]:
    """The two ends of the connection: the workers', and the office's."""
    workers, office = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    workers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return workers, office


def send(end: socket.socket, worker: str, kind: str, entries: list[Any]) -> None:
    """Sends one packet from a worker to the office.

    Args:
        end: the workers'.
        worker: who sends.
        kind: of the entries: `requests`, `incidents` (`ranker.metrics.incident_log`), `drift` or
            `drift_served` (`ranker.metrics.drift_log`).
        entries: at most `_MOST_ENTRIES` of them.

    Raises:
        OSError: the office does not keep up.
    """
    end.send(marshal.dumps((worker, kind, entries)), socket.MSG_DONTWAIT)


class AccessLog:
    """The worker's end: notes the requests that have ended, and sends them to the office.

    For the loop's thread alone.

    Args:
        fd: the workers' end of the connection.
        mode: one of `MODES`, but `off`.
        rate: the share of the requests that `sampled` logs beside the errors.
        aggregates: where is counted what was lost.
        worker: which worker this is.

    Attributes:
        errors_only: whether to leave out requests that were answered with a ranking.
    """

    def __init__(
        self, fd: int, mode: str, rate: float, aggregates: Aggregates, worker: int
    ) -> None:
        self.errors_only = mode == "errors"
        self._sampled = mode == "sampled"
        self._all = mode == "all"
        self._limit = rate * 2**32
        self._worker = str(worker)
        self._socket = socket.socket(fileno=fd)
        self._cells = aggregates.slots[worker].cells
        self._lost = _lines(aggregates)
        self._noted: list[tuple[object, ...]] = []
        self._second = -math.inf
        self._errors = 0

    def request_ended(self, code: int, request: LoggedRequest, name: Name) -> None:
        """Notes a request, if it is one to log.

        Args:
            code: how it ended.
            request: which.
            name: its model's, and the version.
        """
        if not self._all:
            if code:
                if self._too_many(request.ended):
                    self._cells[self._lost["capped"]] += 1.0
                    return
            elif self._sampled and not self._in_sample(request):
                return
        traceparent = request.traceparent
        caller = request.caller
        self._noted.append(
            (
                time.time(),
                int(code),
                request.request_id[:_MOST_CHARACTERS],
                *name,
                request.rows,
                request.queued,
                request.scoring,
                request.ended - request.arrived,
                None if traceparent is None else traceparent[_TRACEPARENT],
                request.connection()[:_MOST_CHARACTERS],
                "" if caller is None else caller.name[:_MOST_CHARACTERS],
            )
        )
        if len(self._noted) >= _MOST_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Sends what has been noted, unless the office does not keep up."""
        noted = self._noted
        if not noted:
            return
        try:
            send(self._socket, self._worker, "requests", noted)
        except OSError:  # the buffer is full
            self._cells[self._lost["dropped"]] += len(noted)
        noted.clear()

    def _too_many(self, now: float) -> bool:
        """Counts an error; whether there were too many in this second."""
        if now - self._second >= 1.0:
            self._second, self._errors = now, 0
        self._errors += 1
        return self._errors > ERRORS_PER_SECOND

    def _in_sample(self, request: LoggedRequest) -> bool:
        """Whether to log a request that went well: all of a trace, or nothing of it."""
        key = request.request_id if request.traceparent is None else request.traceparent[_TRACE_ID]
        number = zlib.crc32(key.encode("utf-8", "replace")) if key else random.getrandbits(32)
        return number < self._limit


class AccessLogWriter:
    """The office's end: a thread that writes the lines.

    Args:
        fd: the office's end of the connection.
        wake_fd: the workers' end.
        aggregates: where is counted what was written, in the office's slot.
        project: the GCP project that traces belong to; empty if there is none.
        output: the descriptor to write to.
        errors: who else hears of what failed.
        drift: who hears of what was counted of features.
    """

    def __init__(
        self,
        fd: int,
        wake_fd: int,
        aggregates: Aggregates,
        project: str = "",
        output: int = 1,
        errors: ErrorSink | None = None,
        drift: DriftSink | None = None,
    ) -> None:
        self._socket = socket.socket(fileno=fd)
        self._wake = socket.socket(fileno=wake_fd)
        self._cells = aggregates.slots[aggregates.layout.slot("office")].cells
        self._counts = _lines(aggregates)
        self._project = project
        self._output = output
        self._errors = errors
        self._drift = drift
        self._failed = False
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what has arrived, and ends; gives up after a second if nobody reads the output."""
        self._wake.settimeout(_CLOSING_SECONDS)
        try:
            self._wake.send(b"")
        except TimeoutError:
            logger.warning("nobody reads the access log; what is left of it is lost")
        self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        while packet := self._socket.recv(_MOST_PACKET_BYTES):
            worker, kind, entries = marshal.loads(packet)
            if kind == "requests":
                self._requests_ended(worker, entries)
            elif kind in ("drift", "drift_served"):
                if self._drift is not None:
                    take = self._drift.add if kind == "drift" else self._drift.serve
                    guard(logger, "taking counts of features", take, entries)
            elif self._errors is not None:
                for at, mark, what in entries:
                    self._errors.add_incident(time_of(at), mark, what, f"worker {worker}")

    def _requests_ended(self, worker: str, entries: Sequence[Any]) -> None:
        lines = [as_json(worker, entry, self._project) for entry in entries]
        text = "\n".join(map(json.dumps, lines)) + "\n"
        outcome = "written" if self._write(text.encode()) else "dropped"
        self._cells[self._counts[outcome]] += len(entries)
        if self._errors is not None:
            for line in lines:
                if line["code"] != Code.OK.name:
                    self._errors.add_request(line)

    def _write(self, text: bytes) -> bool:
        """Writes all of a text; whether that was possible."""
        try:
            while text:
                text = text[os.write(self._output, text) :]
        except OSError as error:
            if not self._failed:
                self._failed = True
                logger.error("the access log can't be written: %s", error.strerror)
            return False
        return True


def as_json(worker: str, entry: Any, project: str) -> dict[str, object]:
    """What a line says.

    Args:
        worker: who has answered.
        entry: what `AccessLog` has noted.
        project: the GCP project that traces belong to; empty if there is none.
    """
    at, code, request_id, model, version, rows, queued, scoring, total, *about_caller = entry
    traceparent, peer, caller = about_caller
    line: dict[str, object] = {
        "severity": "WARNING" if code else "INFO",
        "time": time_of(at),
        "message": f"ranking request: {Code(code).name}",
        "logger": "ranker.access",
        "request_id": request_id,
        "model": model,
        "version": version,
        "candidates": rows,
        "code": Code(code).name,
        "queue_seconds": round(queued, 6),
        "scoring_seconds": round(scoring, 6),
        "total_seconds": round(total, 6),
        "peer": peer,
    }
    if caller:
        line["caller"] = caller
    trace = None if traceparent is None else parse_traceparent(traceparent)
    if trace is not None:
        line |= trace_fields(trace, project)
    return line | labels_of(worker)


def _lines(aggregates: Aggregates) -> dict[str, int]:
    """Where lines are counted, by what became of them."""
    places = aggregates.layout.plan.cells[catalogue.ACCESS_LOG_LINES]
    values = catalogue.ACCESS_LOG_OUTCOME.values
    return {outcome: place for (outcome,), place in zip(values, places, strict=True)}
