"""Errors as `google.rpc.Status` messages, and back.

A status carries the error's code and message, and what a client can act on as
details: the field of an invalid request (`google.rpc.BadRequest`), when to retry
(`google.rpc.RetryInfo`), and that it is the caller's own quota that is used up
(`google.rpc.QuotaFailure`). It travels in a gRPC call's trailers, and, laid out
alike as `ranker.v1.Status`, in the answers of a stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from ranker.errors import (
    QUOTA,
    CancelledError,
    Code,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    ModelError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RankerError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)

MAX_TEXT = 1000
"""Bytes of an error's message that travel, in UTF-8.

A message may quote what the caller sent. A client drops a call whose trailers
are larger than its limit on metadata, 8 KiB by default, and then reports that
instead of the error.
"""

LEAST_RETRY_AFTER = 1e-3
"""Seconds. A wait that is predicted may be shorter, or none; to a caller 0 says nothing."""


class StatusMessage(Protocol):
    """What `google.rpc.Status` and `ranker.v1.Status` have in common."""

    @property
    def code(self) -> int:
        """A number of `Code`."""

    @property
    def message(self) -> str:
        """What was wrong, for a person to read."""

    @property
    def details(self) -> Iterable[any_pb2.Any]:
        """`google.rpc.BadRequest`, `google.rpc.RetryInfo` and the like."""


def to_status(error: RankerError) -> status_pb2.Status:
    """The message that says what `error` says, cut to size; `from_status` reads it back."""
    status = status_pb2.Status(code=error.code, message=_cut(error.message))
    if isinstance(error, InvalidRequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field), description=_cut(error.description)
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    elif isinstance(error, OverloadedError):
        if error.says_when:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(round(max(error.retry_after, LEAST_RETRY_AFTER) * 1e9))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        if error.reason == QUOTA:
            failure = error_details_pb2.QuotaFailure.Violation(description=status.message)
            status.details.add().Pack(error_details_pb2.QuotaFailure(violations=[failure]))
    return status


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT and text.isascii():
        return text
    encoded = text.encode(errors="replace")
    if len(encoded) <= MAX_TEXT:
        return encoded.decode()
    return f"{encoded[:MAX_TEXT].decode(errors='ignore')}..."


def from_status(status: StatusMessage) -> RankerError:
    """The error that `to_status` was called on.

    A status that no class stands for becomes a plain `RankerError` that carries
    its code. Of several field violations the first is kept.
    """
    code = Code(status.code) if status.code in _KNOWN else Code.UNKNOWN
    error: RankerError
    if code is Code.INVALID_ARGUMENT:
        bad = _unpack(status, error_details_pb2.BadRequest())
        violations = bad.field_violations or [
            error_details_pb2.BadRequest.FieldViolation(description=status.message)
        ]
        error = InvalidRequestError(violations[0].field, violations[0].description)
        error.message = status.message
        error.args = (status.message,)
    elif code is Code.RESOURCE_EXHAUSTED:
        retry = _unpack(status, error_details_pb2.RetryInfo())
        error = OverloadedError(status.message, retry.retry_delay.ToNanoseconds() / 1e9)
        error.says_when = _has(status, error_details_pb2.RetryInfo.DESCRIPTOR)
        if _has(status, error_details_pb2.QuotaFailure.DESCRIPTOR):
            error.reason = QUOTA
    else:
        error = _CLASSES.get(code, RankerError)(status.message)
        error.code = code
    return error


_KNOWN = {int(code) for code in Code}
_CLASSES: dict[Code, type[RankerError]] = {
    kind.code: kind
    for kind in (
        NotFoundError,
        PermissionDeniedError,
        DeadlineError,
        CancelledError,
        UnavailableError,
        UnimplementedError,
        InternalError,
        UnauthenticatedError,
        ModelError,
    )
}

_Detail = TypeVar("_Detail", bound=Message)


def _has(status: StatusMessage, detail: Descriptor) -> bool:
    return any(each.Is(detail) for each in status.details)


def _unpack(status: StatusMessage, detail: _Detail) -> _Detail:
    """Fills `detail` from the first of the status's details of its type, if there is one."""
    for packed in status.details:
        try:
            if packed.Unpack(detail):
                break
        except DecodeError:
            continue
    return detail
