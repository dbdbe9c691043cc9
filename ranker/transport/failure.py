"""What goes wrong between a handler and the wire."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import grpc

from ranker.errors import InternalError, OverloadedError, RankerError
from ranker.incident import incident

logger = logging.getLogger("ranker.transport")

MAX_TEXT = 1000
"""Characters of an error's message that travel.

A message may quote what the caller sent. A client drops a call whose trailers
are larger than its limit on metadata, 8 KiB by default, and then reports that
instead of the error.
"""

_MAX_DETAILS = 4096
T = TypeVar("T")

Trailers = tuple[tuple[str, str | bytes], ...]


def on_the_wire(error: RankerError) -> tuple[grpc.StatusCode, str, Trailers]:
    """An error as status code, status message and trailing metadata."""
    status = error.status()
    if len(status.message) > MAX_TEXT:
        status.message = status.message[:MAX_TEXT] + "..."
    if status.ByteSize() > _MAX_DETAILS:
        del status.details[:]
    trailers: Trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    if isinstance(error, OverloadedError):
        trailers += (("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))),)
    return error.code, status.message, trailers


def guard(what: str, function: Callable[..., T], *arguments: object) -> T | None:
    """Calls a function whose exceptions must not end the loop: they are logged."""
    try:
        return function(*arguments)
    except Exception as error:
        incident(logger, f"{what} failed", error)
        return None


def as_ranker_error(error: Exception, method: str) -> RankerError:
    """The error to answer with when a handler has raised; logs it if it is a bug."""
    if isinstance(error, RankerError):
        return error
    return InternalError(incident(logger, f"{method} failed", error))
