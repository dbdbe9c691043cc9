"""What grpc.aio logs that is none of the server's errors."""

from __future__ import annotations

import logging

import grpc.aio

LOGGER = logging.getLogger("grpc._cython.cygrpc")
"""grpc.aio's own; a name that does not exist is harmless."""


def quieten() -> None:
    """Has grpc.aio not log, as an error with a traceback, that an answer found nobody.

    It does so when the caller leaves, or the connection is lost, just before the
    answer or the status goes out. The RPC counts as it ended for the server.
    """
    LOGGER.addFilter(_found_nobody)  # once, however often: filters are compared


def _found_nobody(record: logging.LogRecord) -> bool:
    """Whether to log it: not the failure of a batch of operations on an RPC."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, grpc.aio.InternalError)
