"""Errors at gRPC's edge: what becomes of a `RankerError` on its way to a caller."""

from __future__ import annotations

import functools
import logging
import time

from ranker.errors import Code, InternalError, OverloadedError, RankerError
from ranker.incident import incident
from ranker.rpc import Call
from ranker.status import LEAST_RETRY_AFTER, to_status

logger = logging.getLogger("ranker.transport")

_MAX_DETAILS = 3072
"""Bytes of a status in the trailers; of a larger one only the message travels. It is in base64, and
the message beside it may take three bytes for one; clients take 8 KiB of both."""

Trailers = tuple[tuple[str, str | bytes], ...]


def on_the_wire(error: RankerError) -> tuple[Code, str, Trailers]:
    """An error as code, status message and trailing metadata."""
    if isinstance(error, OverloadedError):
        milliseconds = round(max(error.retry_after, LEAST_RETRY_AFTER) * 1000)
        return _refusal(error.message, error.reason, milliseconds, error.in_time)
    return _encode(error)


@functools.lru_cache(maxsize=256)
def _refusal(
    message: str, reason: str, milliseconds: int, in_time: bool
) -> tuple[Code, str, Trailers]:
    """An overloaded server must say so cheaply, and says few different things."""
    error = OverloadedError(message, milliseconds / 1000)
    error.reason = reason
    code, text, trailers = _encode(error)
    pushback = milliseconds if in_time else -1  # gRPC's word for: do not retry by yourself
    return code, text, (*trailers, ("grpc-retry-pushback-ms", str(pushback)))


def _encode(error: RankerError) -> tuple[Code, str, Trailers]:
    status = to_status(error)
    if status.ByteSize() > _MAX_DETAILS:
        del status.details[:]
    return error.code, status.message, (("grpc-status-details-bin", status.SerializeToString()),)


def as_ranker_error(error: Exception, call: Call) -> RankerError:
    """The error to answer with when a handler has raised; logs it if it is a bug."""
    if isinstance(error, RankerError):
        return error
    return InternalError(incident(logger, f"{call.method} failed", error, call.traceparent))


def why_gone(call: Call) -> Code:
    """The code of a call whose caller has just gone: CANCELLED or DEADLINE_EXCEEDED.

    A caller cancels when its deadline passes, and that may be sooner than the
    deadline which it told us: gRPC rounds a timeout up, by a hundredth at most.
    """
    limit = call.arrived + 0.99 * (call.deadline - call.arrived)
    return Code.DEADLINE_EXCEEDED if time.monotonic() >= limit else Code.CANCELLED
