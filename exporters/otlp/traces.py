"""When spans are sent, and what becomes of those that can't be.

A thread makes spans of requests and sends them, every few seconds. What waits meanwhile is bounded,
and what has no room is counted, by whole requests.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from threading import Event, Thread

from exporters.otlp import without_secrets
from exporters.otlp.collector import Collector, seconds
from exporters.otlp.spans import Spans
from ranker.incident import incident
from ranker.metrics.log_entry import LogEntry
from ranker.metrics.office_recorder import OfficeRecorder

logger = logging.getLogger(__name__)

MOST_WAITING = 4096
"""Spans that may wait to be sent, those that are being sent among them."""

MOST_AT_ONCE = 512
"""Requests whose spans are sent together. So many need not wait any longer."""

_CLOSING_SECONDS = 2.0
"""What the last spans have."""


class Traces:
    """Has spans of traced requests sent.

    Nothing that the collector does is felt outside: it may be away, hang or refuse. What became
    of the spans is counted in `ranker_trace_spans_total`.

    Args:
        endpoint: the URL that they are posted to.
        recorder: where they are counted.

    Raises:
        ValueError: a variable of OpenTelemetry's can't be.
    """

    def __init__(self, endpoint: str, recorder: OfficeRecorder) -> None:
        self._recorder = recorder
        self._spans = Spans()
        self._collector = Collector(endpoint)
        self._delay = seconds("OTEL_BSP_SCHEDULE_DELAY", 5.0, 1e-3)
        self._waiting: deque[tuple[str, LogEntry]] = deque()
        self._given = self._done = 0  # spans, each written by one thread
        self._failing = False
        self._ends = False
        self._wake = Event()
        self._thread = Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()
        logger.info("traces to %s", without_secrets(endpoint))

    def add(self, worker: str, entries: Sequence[LogEntry]) -> None:
        """Has the spans of some requests sent, unless too many wait; for one thread.

        Args:
            worker: who has answered.
            entries: requests that are traced.
        """
        for entry in entries:
            spans = entry.spans()
            if self._given - self._done + spans > MOST_WAITING:
                self._recorder.spans("dropped", spans)
                continue
            self._given += spans
            self._waiting.append((worker, entry))
        if len(self._waiting) >= MOST_AT_ONCE:
            self._wake.set()

    def close(self) -> None:
        """Sends what waits, and gives up after some seconds."""
        self._ends = True
        self._wake.set()
        self._thread.join(_CLOSING_SECONDS)
        left = self._given - self._done
        if left:
            self._recorder.spans("dropped", left)
            logger.warning("ending with %d spans of traces not sent", left)

    def _run(self) -> None:
        ends = False
        while not ends:
            self._wake.wait(self._delay)
            self._wake.clear()
            ends = self._ends
            while self._waiting:
                count = min(len(self._waiting), MOST_AT_ONCE)
                requests = [self._waiting.popleft() for _ in range(count)]
                self._send(requests)

    def _send(self, requests: list[tuple[str, LogEntry]]) -> None:
        waited = spans = sum(entry.spans() for _, entry in requests)
        lost: int | None = None
        try:
            message, spans = self._spans.message(requests)
            lost, reason = self._collector.post(message)
        except Exception as error:  # a bug here must not end all traces
            reason = incident(logger, "sending traces failed", error)
        self._done += waited
        # A collector may say that it has not taken more than it got, or less than none.
        lost = spans if lost is None else min(max(lost, 0), spans)
        self._recorder.spans("failed", lost)
        self._recorder.spans("exported", spans - lost)
        if lost and not self._failing:
            logger.warning("sending traces failed: %s", without_secrets(reason))
        elif self._failing and not lost:
            logger.info("sending traces works again")
        self._failing = lost > 0
