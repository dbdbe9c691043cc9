"""Logs: JSON lines that Cloud Logging understands, or text for a person at a terminal.

Beside its message a record may carry the fields of `FIELDS`, given as `extra`;
nothing else of a record is written. Feature values are never logged.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType

from ranker.metrics.trace import Trace, parse_traceparent

FIELDS = ("incident", "method", "model", "request_id")
"""What a record may carry as `extra`, beside `trace`."""


def configure(
    format: str = "auto",  # noqa: A002
    level: str = "INFO",
    process: str | None = None,
    project: str = "",
) -> None:
    """Sends the logs of this process to standard error, uncaught exceptions included.

    Args:
        format: `json`; `text`; or `auto`, text if standard error is a terminal.
        level: the least severe messages to write: `DEBUG`, `INFO`, `WARNING`, `ERROR`.
        process: which of the server's processes this is, written with every record: a
            worker's number, `supervisor` or `office`.
        project: the GCP project that traces belong to; empty: the environment's
            GOOGLE_CLOUD_PROJECT, if it is set.

    Raises:
        ValueError: there is no such format or level.
    """
    if format not in ("auto", "json", "text"):
        raise ValueError(f"log format: expected auto, json or text, got {format!r}")
    as_text = sys.stderr.isatty() if format == "auto" else format == "text"
    handler = logging.StreamHandler(sys.stderr)
    formatter = TextFormatter(process) if as_text else JsonFormatter(process, project_of(project))
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def trace_of(traceparent: str | None) -> dict[str, Trace]:
    """The `extra` that ties a record to the caller's trace.

    Args:
        traceparent: the header of that name, as the caller sent it.

    Returns:
        Nothing to add if there is no header, or no valid one.
    """
    trace = parse_traceparent(traceparent) if traceparent is not None else None
    return {} if trace is None else {"trace": trace}


def project_of(project: str) -> str:
    """The GCP project that traces belong to; empty if there is none.

    Args:
        project: the one that is set; empty: the environment's GOOGLE_CLOUD_PROJECT.
    """
    return project or os.environ.get("GOOGLE_CLOUD_PROJECT", "")


def time_of(seconds: float) -> str:
    """A time since the Unix epoch, as Cloud Logging reads it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def trace_fields(trace: Trace, project: str) -> dict[str, object]:
    """What Cloud Logging finds a trace's entries by.

    Args:
        trace: which.
        project: the GCP project that it belongs to; empty: its id alone is written.
    """
    prefix = f"projects/{project}/traces/" if project else ""
    return {
        "logging.googleapis.com/trace": prefix + trace.trace_id,
        "logging.googleapis.com/spanId": trace.span_id,
        "logging.googleapis.com/trace_sampled": trace.sampled,
    }


def labels_of(process: str) -> dict[str, object]:
    """Which of the server's processes an entry is about, as one of Cloud Logging's labels."""
    return {"logging.googleapis.com/labels": {"worker": process}}


class JsonFormatter(logging.Formatter):
    """One JSON object per line, with the field names that Cloud Logging gives a meaning to.

    See https://cloud.google.com/logging/docs/structured-logging.

    Args:
        process: which of the server's processes this is; None if there is only one.
        project: the project that a trace's full name begins with; empty: its id is written.
    """

    def __init__(self, process: str | None = None, project: str = "") -> None:
        super().__init__()
        self._process = process
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        entry: dict[str, object] = {
            "severity": record.levelname,
            "time": time_of(record.created),
            "message": record.getMessage(),
            "logger": record.name,
            **_fields(record),
        }
        trace = getattr(record, "trace", None)
        if isinstance(trace, Trace):
            entry |= trace_fields(trace, self._project)
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)
        if record.levelno >= logging.ERROR:
            entry["logging.googleapis.com/sourceLocation"] = {
                "file": record.pathname,
                "line": str(record.lineno),
                "function": record.funcName,
            }
        if self._process is not None:
            entry |= labels_of(self._process)
        return json.dumps(entry)


class TextFormatter(logging.Formatter):
    """Time of day, severity, message; then the fields, and the traceback if there is one.

    Args:
        process: which of the server's processes this is; None if there is only one.
    """

    def __init__(self, process: str | None = None) -> None:
        where = "" if process is None else f" [{process}]"
        super().__init__(f"%(asctime)s.%(msecs)03d %(levelname)-7s{where} %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The record without its traceback."""
        text = super().formatMessage(record)
        fields = _fields(record)
        trace = getattr(record, "trace", None)
        if isinstance(trace, Trace):
            fields["trace"] = trace.trace_id
        # Quoted, since a caller chose them: no line break of theirs makes a line.
        return text + "".join(f" {name}={json.dumps(value)}" for name, value in fields.items())


def _fields(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(getattr(record, name)) for name in FIELDS if hasattr(record, name)}


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.critical("uncaught exception", exc_info=(kind, error, traceback))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread is not None else "?"
        details = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.critical("uncaught exception in thread %s", name, exc_info=details)
