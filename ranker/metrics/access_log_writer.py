"""The access log's other end: the office writes its lines, and has spans made of what is traced.

See `ranker.metrics.access_log`.
"""

from __future__ import annotations

import contextlib
import logging
import marshal
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock, Thread
from typing import Any, Protocol

from ranker.errors import Code
from ranker.incident import guard
from ranker.logs import time_of
from ranker.metrics.access_log import MOST_PACKET_BYTES, line_counts
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.line_output import LineOutput
from ranker.metrics.log_entry import LogEntry, as_json

logger = logging.getLogger(__name__)

Traced = Callable[[str, Sequence[LogEntry]], None]
"""Who makes spans of the requests of a worker that are traced; called on the writer's thread."""

_CLOSING_SECONDS = 1.0
"""What whoever reads the lines has for the last of them."""


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


class AccessLogWriter:
    """The office's end: a thread that takes what workers send, and has the lines written.

    Args:
        fd: the office's end of the connection.
        wake_fd: the workers' end.
        aggregates: where is counted what was written, in the office's slot.
        project: the GCP project that traces belong to; empty if there is none.
        output: the descriptor to write to.
        errors: who else hears of what failed.
        drift: who hears of what was counted of features.
        traced: make spans.
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
        traced: Sequence[Traced] = (),
    ) -> None:
        self._socket = socket.socket(fileno=fd)
        self._wake = socket.socket(fileno=wake_fd)
        self._cells = aggregates.slots[aggregates.layout.slot("office")].cells
        self._counts = line_counts(aggregates)
        self._project = project
        self._counting = Lock()
        self._output = LineOutput(output, self._count)
        self._errors = errors
        self._drift = drift
        self._traced = traced
        self._closing = False
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what has arrived, and ends; gives up after a second if nobody reads the output."""
        limit = time.monotonic() + _CLOSING_SECONDS
        self._closing = True
        self._wake.settimeout(_CLOSING_SECONDS)
        with contextlib.suppress(TimeoutError):
            self._wake.send(b"")
        self._thread.join(_CLOSING_SECONDS)
        if not self._output.close(max(0.0, limit - time.monotonic())):
            logger.warning("nobody reads the access log; what is left of it is lost")

    def _run(self) -> None:
        # One for all packets: a buffer allocated for each would fragment the heap.
        packet = memoryview(bytearray(MOST_PACKET_BYTES))
        arrived = select.poll()
        arrived.register(self._socket, select.POLLIN)
        # A process that is killed while it waits in `recv` takes what comes until it gets a core to
        # end on, and the next office would not find it. One that waits in `poll` takes nothing.
        while arrived.poll():
            if size := self._socket.recv_into(packet):
                guard(logger, "writing the access log", self._take, packet[:size])
            elif self._closing:
                return
            # Else the last office left its own end behind.

    def _take(self, packet: memoryview) -> None:
        worker, kind, entries = marshal.loads(packet)
        if kind == "requests":
            self._requests_ended(worker, [LogEntry._make(entry) for entry in entries])
        elif kind in ("drift", "drift_served"):
            if self._drift is not None:
                take = self._drift.add if kind == "drift" else self._drift.serve
                guard(logger, "taking counts of features", take, entries)
        elif self._errors is not None:
            for at, mark, what in entries:
                self._errors.add_incident(time_of(at), mark, what, f"worker {worker}")

    def _requests_ended(self, worker: str, entries: Sequence[LogEntry]) -> None:
        traced = [entry for entry in entries if entry.span]
        for make_spans in self._traced if traced else ():
            guard(logger, "making spans", make_spans, worker, traced)
        lines = [as_json(worker, entry, self._project) for entry in entries if entry.logged]
        if lines:
            self._output.put(lines)
        if self._errors is not None:
            for line in lines:
                if line["code"] != Code.OK.name:
                    self._errors.add_request(line)

    def _count(self, written: int, lost: int) -> None:
        with self._counting:
            self._cells[self._counts["written"]] += written
            self._cells[self._counts["dropped"]] += lost
