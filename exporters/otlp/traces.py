"""When spans are sent, and what becomes of those that can't be.

The SDK's batch processor sends them from a thread of its own, and repeats what a collector puts
off for up to OTEL_EXPORTER_OTLP_TIMEOUT. What waits meanwhile is bounded here, so that what has no
room is counted, by whole requests.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from exporters.otlp.spans import Spans
from ranker.metrics.log_entry import LogEntry
from ranker.metrics.office_recorder import OfficeRecorder

logger = logging.getLogger(__name__)

MOST_WAITING = 4096
"""Spans that may wait to be sent, those that are being sent among them."""

_CLOSING_SECONDS = 2.0
"""What the last spans have."""


class Traces:
    """Makes spans of traced requests, and has them sent.

    Nothing that the collector does is felt outside: it may be away, hang or refuse. What became
    of the spans is counted in `ranker_trace_spans_total`.

    Args:
        endpoint: the URL that they are posted to.
        recorder: where they are counted.

    Raises:
        ValueError: a variable of the SDK's can't be.
    """

    def __init__(self, endpoint: str, recorder: OfficeRecorder) -> None:
        self._recorder = recorder
        self._spans = Spans()
        self._sender = Sender(OTLPSpanExporter(endpoint), recorder)
        self._given = 0
        self._processor = BatchSpanProcessor(self._sender, max_queue_size=MOST_WAITING)
        logger.info("traces to %s", endpoint)

    def add(self, worker: str, entries: Sequence[LogEntry]) -> None:
        """Makes and keeps the spans of some requests, unless too many wait; for one thread.

        Args:
            worker: who has answered.
            entries: requests that are traced.
        """
        for entry in entries:
            spans = list(self._spans.of(worker, entry))
            if self._given - self._sender.done + len(spans) > MOST_WAITING:
                self._recorder.spans("dropped", len(spans))
                continue
            self._given += len(spans)
            for span in spans:
                self._processor.on_end(span)

    def close(self) -> None:
        """Sends what waits, and gives up after some seconds."""
        thread = Thread(target=self._processor.shutdown, name="last-traces", daemon=True)
        thread.start()
        thread.join(_CLOSING_SECONDS)
        left = self._given - self._sender.done
        if left:
            self._recorder.spans("dropped", left)
            logger.warning("ending with %d spans of traces not sent", left)


class Sender(SpanExporter):
    """Counts what the SDK's exporter sends, and says once what keeps it from it.

    Args:
        exporter: the SDK's.
        recorder: where spans are counted.

    Attributes:
        done: how many spans it has been given and is done with.
    """

    def __init__(self, exporter: SpanExporter, recorder: OfficeRecorder) -> None:
        self.done = 0
        self._exporter = exporter
        self._recorder = recorder
        self._failing = False
        self._reason = _Reason()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends some spans; see `SpanExporter`."""
        self._reason.first = ""
        try:
            result = self._exporter.export(spans)
        except Exception:
            logger.exception("a bug in sending traces")
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        self._recorder.spans("failed" if failed else "exported", len(spans))
        self.done += len(spans)
        if failed and not self._failing:
            logger.warning("sending traces failed: %s", self._reason.first)
        elif self._failing and not failed:
            logger.info("sending traces works again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Sends no more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Keeps nothing back."""
        return self._exporter.force_flush(timeout_millis)


class _Reason(logging.Handler):
    """Takes what the SDK logs: it complains of each attempt, and says nowhere else what was wrong.

    Attributes:
        first: what it has said since this was made empty; the first has the cause.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        sdk = logging.getLogger("opentelemetry")
        sdk.handlers, sdk.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()
