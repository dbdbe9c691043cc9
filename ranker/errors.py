"""The one exception family of the project; each class knows its gRPC status.

`RankerError.status()` is the only place where an error becomes wire format:
a `google.rpc.Status` with the details that a client can act on. Transports
send it; clients turn it back with `from_status` and `from_rpc_error`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


class RankerError(Exception):
    """Anything that went wrong and that a caller should hear about.

    Attributes:
        code: the gRPC status that this class of error travels as.
        message: what was wrong and what was expected, for a person to read.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def details(self) -> list[any_pb2.Any]:
        """Machine-readable details, as `google.rpc` error messages."""
        return []

    def status(self) -> status_pb2.Status:
        """This error as it travels in `grpc-status-details-bin`."""
        return status_pb2.Status(
            code=self.code.value[0], message=self.message, details=self.details()
        )


class InvalidRequestError(RankerError):
    """The request can never succeed as it is.

    Attributes:
        field: the request's offending field, as a path: `candidates.data`.
        description: what is wrong with it, and what was expected.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message

    def details(self) -> list[any_pb2.Any]:
        """One `google.rpc.BadRequest` with one field violation."""
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=self.field, description=self.description
        )
        return [_any(error_details_pb2.BadRequest(field_violations=[violation]))]


class NotFoundError(RankerError):
    """No such model, version or method."""

    code = grpc.StatusCode.NOT_FOUND


class OverloadedError(RankerError):
    """The server can't answer in time or in memory. Retry elsewhere, or after a while.

    Attributes:
        retry_after: the seconds after which a retry has a chance; 0 in a client
            whose server did not say.
        in_time: whether that is before the caller's deadline. If not, it should
            hear of the refusal now instead of waiting for a retry.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after: float, *, in_time: bool = True) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.in_time = in_time

    def details(self) -> list[any_pb2.Any]:
        """One `google.rpc.RetryInfo`."""
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(self.retry_after * 1e9))
        return [_any(error_details_pb2.RetryInfo(retry_delay=delay))]


class DeadlineError(RankerError):
    """The caller's deadline passed before the answer was ready."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class CancelledError(RankerError):
    """The call was cancelled before the answer was ready."""

    code = grpc.StatusCode.CANCELLED


class UnavailableError(RankerError):
    """The server is draining, or can't be reached. Safe to retry elsewhere."""

    code = grpc.StatusCode.UNAVAILABLE


class UnimplementedError(RankerError):
    """The server has no such method."""

    code = grpc.StatusCode.UNIMPLEMENTED


class InternalError(RankerError):
    """A bug. The message carries an id to find in the server's log."""

    code = grpc.StatusCode.INTERNAL


class ModelError(RankerError):
    """A model file that can't be loaded or exported; says which part and why."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class UnsupportedModelError(ModelError):
    """A sound model that one engine can't represent exactly; another one may."""


class StatusMessage(Protocol):
    """What `google.rpc.Status` and `ranker.v1.Status` have in common."""

    @property
    def code(self) -> int:
        """A gRPC status code."""

    @property
    def message(self) -> str:
        """What was wrong, for a person to read."""

    @property
    def details(self) -> Iterable[any_pb2.Any]:
        """`google.rpc.BadRequest`, `google.rpc.RetryInfo` and the like."""


def from_status(status: StatusMessage) -> RankerError:
    """The error that travels as `status`: what `RankerError.status()` was called on.

    A status that no class stands for becomes a plain `RankerError` that carries
    its code. Of several field violations the first is kept.
    """
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    error: RankerError
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        bad = _unpack(status, error_details_pb2.BadRequest())
        violations = bad.field_violations or [
            error_details_pb2.BadRequest.FieldViolation(description=status.message)
        ]
        error = InvalidRequestError(violations[0].field, violations[0].description)
        error.message = status.message
        error.args = (status.message,)
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        retry = _unpack(status, error_details_pb2.RetryInfo())
        error = OverloadedError(status.message, retry.retry_delay.ToNanoseconds() / 1e9)
    else:
        error = _CLASSES.get(code, RankerError)(status.message)
        error.code = code
    return error


def from_rpc_error(error: grpc.RpcError) -> RankerError:
    """The error that ended an RPC of `grpc` or `grpc.aio`, the server's or gRPC's own."""
    call = cast(grpc.Call, error)
    try:
        status = rpc_status.from_call(call)
    except (DecodeError, ValueError):
        # Something on the way rewrote the status, or the details: believe what gRPC itself says.
        status = None
    if status is None:
        status = status_pb2.Status(code=call.code().value[0], message=call.details() or "")
    return from_status(status)


_CODES = {code.value[0]: code for code in grpc.StatusCode}
_CLASSES: dict[grpc.StatusCode, type[RankerError]] = {
    kind.code: kind
    for kind in (
        NotFoundError,
        DeadlineError,
        CancelledError,
        UnavailableError,
        UnimplementedError,
        InternalError,
        ModelError,
    )
}

_Detail = TypeVar("_Detail", bound=Message)


def _any(message: error_details_pb2.BadRequest | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _unpack(status: StatusMessage, detail: _Detail) -> _Detail:
    """Fills `detail` from the first of the status's details of its type, if there is one."""
    for packed in status.details:
        try:
            if packed.Unpack(detail):
                break
        except DecodeError:
            continue
    return detail
