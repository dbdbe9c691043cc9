"""The access log: one line of JSON for each ranking request that has ended.

A worker notes a few values of each request (`AccessLog`) and sends them on, many at a time,
to the office, which writes the lines (`access_log_writer`), and has spans made of those that are
traced. The connection is a pair of datagram sockets that the supervisor keeps, so that either
end may die and come back. A worker never waits for it: what does not fit is lost, and counted.

A line never holds features or scores.
"""

from __future__ import annotations

import marshal
import math
import random
import socket
import time
import zlib
from typing import Any, Protocol

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import Name
from ranker.metrics.log_entry import LogEntry, ScoredBatch
from ranker.metrics.trace import is_traceparent
from ranker.metrics.trace_sample import TraceSample, span_in

MODES = ("off", "errors", "sampled", "all")
"""What is logged; each has all that the one before it has."""

ERRORS_PER_SECOND = 50
"""Errors that each worker logs in one second, unless all requests are logged: an overloaded server
refuses thousands."""

_BUFFER_BYTES = 2**20
"""What may be on its way to the office: a second or so of a busy worker."""

_MOST_ENTRIES = 64
"""Requests in one packet at most."""

_HOLD_SECONDS = 0.5
"""What is only traced waits so long for more, as a packet costs the office more than what is in it:
it has to wake up, on a core that worked on something else."""

_MOST_CHARACTERS = 128
"""Of a text that a caller chose. A packet thus fits `MOST_PACKET_BYTES`."""

_TRACEPARENT = slice(55)
_TRACE_ID = slice(3, 35)
_LAST_FLAG = slice(54, 55)
"""What is read of a `traceparent` header: https://www.w3.org/TR/trace-context/#traceparent-header."""

_SAMPLED = frozenset("13579bdf")
"""That flag's digit, if the caller records the trace."""

MOST_PACKET_BYTES = 2**17
"""Of one packet."""


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
    batch: ScoredBatch | None
    """The last batch that scored it; None if there was none."""
    traceparent: str | None
    """The caller's W3C trace context, if it sent one; set here if the request begins a trace."""

    def method(self) -> str:
        """The full method name, `/package.Service/Method`."""

    @property
    def caller(self) -> NamedCaller | None:
        """Who asked, if that has been found out."""

    def peer(self) -> str:
        """Its caller's connection, over HTTP that to the office; empty if it is gone."""


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
        mode: one of `MODES`.
        rate: the share of the requests that `sampled` logs beside the errors.
        aggregates: where is counted what was lost.
        worker: which worker this is.
        traces: which requests are traced; None: none.

    Attributes:
        errors_only: whether to leave out requests that were answered with a ranking.
        traced_only: how these are chosen to be traced, if nothing else is noted of them. Those that
            have no trace context need not come here while it has some `left`.
        due: when what has been noted is to be sent, by `flush`: lines of the log at once, what is
            only traced soon.
    """

    def __init__(
        self,
        fd: int,
        mode: str,
        rate: float,
        aggregates: Aggregates,
        worker: int,
        traces: TraceSample | None = None,
    ) -> None:
        self._off = mode == "off"
        self._sampled = mode == "sampled"
        self._all = mode == "all"
        self._traces = traces
        logs_errors_only = not (self._sampled or self._all)
        self.errors_only = traces is None and logs_errors_only
        self.traced_only = traces if logs_errors_only else None
        self._limit = rate * 2**32
        self._worker = str(worker)
        self._socket = socket.socket(fileno=fd)
        self._cells = aggregates.slots[worker].cells
        self._lost = line_counts(aggregates)
        [*_, self._lost_spans] = aggregates.layout.plan.cells[catalogue.TRACE_SPANS]
        self._noted: list[tuple[Any, ...]] = []
        self.due = math.inf
        self._second = -math.inf
        self._errors = 0

    def request_ended(self, code: int, request: LoggedRequest, name: Name) -> None:
        """Notes a request, if it is one to log or to trace.

        Args:
            code: how it ended.
            request: which.
            name: its model's, and the version.
        """
        traceparent, traces, span = request.traceparent, self._traces, None
        if traces is not None:
            if traceparent is not None and traceparent[_LAST_FLAG] in _SAMPLED:
                span = span_in(traceparent)
            if span is None and not is_traceparent(traceparent):
                traceparent = None
                if traces.left:
                    traces.left -= 1.0
                else:
                    span = request.traceparent = traces.begin()
        if self._all:
            logged = True
        elif code:
            logged = self._logs_error(request.ended)
        else:
            logged = self._sampled and self._in_sample(request)
        if not logged and span is None:
            return
        if logged:
            self.due = -math.inf
        elif not self._noted:
            self.due = request.ended + _HOLD_SECONDS
        caller = request.caller
        self._noted.append(
            (  # a `LogEntry`
                time.time(),
                int(code),
                logged,
                request.method(),
                request.request_id[:_MOST_CHARACTERS],
                *name,
                request.rows,
                request.arrived,
                request.ended,
                request.queued,
                request.scoring,
                request.batch,
                None if traceparent is None else traceparent[_TRACEPARENT],
                span,
                request.peer()[:_MOST_CHARACTERS],
                "" if caller is None else caller.name[:_MOST_CHARACTERS],
            )
        )
        if len(self._noted) >= _MOST_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Sends all that has been noted, unless the office does not keep up."""
        noted = self._noted
        if not noted:
            return
        try:
            send(self._socket, self._worker, "requests", noted)
        except OSError:  # the buffer is full
            entries = [LogEntry(*each) for each in noted]
            self._cells[self._lost["dropped"]] += sum(entry.logged for entry in entries)
            lost = sum(entry.spans() for entry in entries if entry.span)
            self._cells[self._lost_spans] += lost
        noted.clear()
        self.due = math.inf

    def _logs_error(self, now: float) -> bool:
        """Counts an error; whether it is to be logged, and not too many were in this second."""
        if self._off:
            return False
        if now - self._second >= 1.0:
            self._second, self._errors = now, 0
        self._errors += 1
        if self._errors <= ERRORS_PER_SECOND:
            return True
        self._cells[self._lost["capped"]] += 1.0
        return False

    def _in_sample(self, request: LoggedRequest) -> bool:
        """Whether to log a request that went well: all of a trace, or nothing of it."""
        traceparent = request.traceparent
        if traceparent is not None and is_traceparent(traceparent):
            key = traceparent[_TRACE_ID]
        else:
            key = request.request_id
        number = zlib.crc32(key.encode("utf-8", "replace")) if key else random.getrandbits(32)
        return number < self._limit


def line_counts(aggregates: Aggregates) -> dict[str, int]:
    """Where lines are counted, by what became of them."""
    places = aggregates.layout.plan.cells[catalogue.ACCESS_LOG_LINES]
    values = catalogue.ACCESS_LOG_OUTCOME.values
    return {outcome: place for (outcome,), place in zip(values, places, strict=True)}
