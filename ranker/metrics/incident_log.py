"""Tells the office of the bugs that a worker has logged, on the access log's connection."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress

from ranker.metrics.access_log import send


class IncidentLog(logging.Handler):
    """A handler that sends on records with an incident's id; others it leaves alone.

    Of an exception it sends nothing: it might have features in it.

    Args:
        fd: the workers' end of the connection.
        worker: which worker this is.
    """

    def __init__(self, fd: int, worker: int) -> None:
        super().__init__(logging.ERROR)
        self._socket = socket.socket(fileno=fd)
        self._worker = str(worker)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record, unless the office does not keep up."""
        mark = getattr(record, "incident", None)
        if mark is not None:
            entry = (record.created, str(mark), record.getMessage().removesuffix(f" [{mark}]"))
            with suppress(OSError):  # the log itself has it
                send(self._socket, self._worker, "incidents", [entry])
