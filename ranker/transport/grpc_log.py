"""What gRPC logs that is none of the server's errors."""

from __future__ import annotations

import logging

import grpc.aio

LOGGER = logging.getLogger("grpc._cython.cygrpc")
"""gRPC's own; a name that does not exist is harmless."""


def quieten() -> None:
    """Has gRPC not log, as errors with tracebacks, two things that are none.

    That an answer found nobody (grpc.aio): the caller left, or the connection was lost, just
    before it went out; the RPC counts as it ended for the server. And that a caller's metadata are
    no text: each such value would be logged whole, for each of its calls.
    """
    LOGGER.addFilter(_is_an_error)  # once, however often: filters are compared


def _is_an_error(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (grpc.aio.InternalError, UnicodeDecodeError))
