"""Errors to statuses and back."""

from __future__ import annotations

import urllib.parse

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from ranker import errors
from ranker.errors import Code
from ranker.rpc_error import from_rpc_error
from ranker.status import from_status, to_status
from ranker.transport.trailers import on_the_wire
from ranker.v1 import ranking_pb2

OVER_QUOTA = errors.OverloadedError("this caller has taken enough", 0.125)
OVER_QUOTA.reason = errors.QUOTA

EVERY_KIND = [
    errors.RankerError("who knows"),
    errors.InvalidRequestError("candidates.data", "expected 8 bytes, got 7"),
    errors.NotFoundError("no model 'x'"),
    errors.PermissionDeniedError("dns:x may not"),
    errors.UnauthenticatedError("who calls?"),
    errors.OverloadedError("queue is full", 0.125),
    OVER_QUOTA,
    errors.DeadlineError("too late"),
    errors.CancelledError("cancelled"),
    errors.UnavailableError("draining"),
    errors.UnimplementedError("no method 'x'"),
    errors.InternalError("incident 7"),
    errors.ModelError("node 3: no such child"),
]


def test_every_kind_is_here():
    travelling = {
        kind for kind in errors.RankerError.__subclasses__() if kind.__module__ == errors.__name__
    }
    assert {type(error) for error in EVERY_KIND} == {errors.RankerError, *travelling}


class Raised(grpc.RpcError):
    """What grpc raises, with a status of the test's choice."""

    def __init__(self, code, details, trailers=()):
        self._code, self._details, self._trailers = code, details, trailers

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailers


def facts(error):
    return {**vars(error), "code": error.code}


def as_google_status(error):
    return from_status(to_status(error))


def as_stream_status(error):
    status = ranking_pb2.Status.FromString(to_status(error).SerializeToString())
    return from_status(status)


def as_rpc_error(error):
    status = rpc_status.to_status(to_status(error))
    return from_rpc_error(Raised(status.code, status.details, status.trailing_metadata))


@pytest.mark.parametrize("travel", [as_google_status, as_stream_status, as_rpc_error])
@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: type(error).__name__)
def test_round_trip(error, travel):
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert facts(arrived) == facts(error)


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_no_code_is_lost(code):
    error = from_rpc_error(Raised(code, "words"))
    assert error.code is Code[code.name]
    assert str(error) == "words"


def test_a_code_from_the_future():
    assert from_status(status_pb2.Status(code=99)).code is Code.UNKNOWN


def test_invalid_argument_without_a_field():
    error = from_rpc_error(Raised(grpc.StatusCode.INVALID_ARGUMENT, "what?"))
    assert isinstance(error, errors.InvalidRequestError)
    assert (error.field, error.description, str(error)) == ("", "what?", "what?")


def test_overload_without_a_hint():
    error = from_rpc_error(Raised(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large"))
    assert isinstance(error, errors.OverloadedError)
    assert error.retry_after == 0
    assert not error.says_when
    assert not from_status(to_status(error)).says_when


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.0004])
def test_a_wait_that_is_too_short_to_say_is_a_millisecond(seconds):
    short = errors.OverloadedError("queue is full", seconds)
    _, message, trailers = on_the_wire(short)
    assert dict(trailers)["grpc-retry-pushback-ms"] == "1"
    raised = Raised(grpc.StatusCode.RESOURCE_EXHAUSTED, message, trailers)
    for error in (from_rpc_error(raised), from_status(to_status(short))):
        assert error.says_when
        assert error.retry_after == 0.001


def test_no_words():
    assert str(from_rpc_error(Raised(grpc.StatusCode.UNAVAILABLE, None, None))) == ""


def test_other_details_are_passed_over():
    other, retry = any_pb2.Any(), any_pb2.Any()
    other.Pack(error_details_pb2.DebugInfo(detail="x"))
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(1500)
    retry.Pack(info)
    broken = any_pb2.Any(type_url=retry.type_url, value=b"\xff")
    error = from_status(status_pb2.Status(code=8, message="m", details=[other, broken, retry]))
    assert isinstance(error, errors.OverloadedError)
    assert error.retry_after == 1.5


@pytest.mark.parametrize(
    "details",
    [
        pytest.param(b"\xff\xff", id="garbage"),
        pytest.param(status_pb2.Status(code=3, message="m").SerializeToString(), id="another code"),
    ],
)
def test_details_that_contradict_the_status(details):
    trailers = (("grpc-status-details-bin", details),)
    error = from_rpc_error(Raised(grpc.StatusCode.UNAVAILABLE, "m", trailers))
    assert isinstance(error, errors.UnavailableError)
    assert str(error) == "m"


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u65e5", "\U0001f600", "\ud800", "\0"])
def test_an_error_fits_into_trailers_whatever_its_text_is_of(letter):
    """A client that can't take the trailers reports another status."""
    text = letter * 5000
    code, message, trailers = on_the_wire(errors.InvalidRequestError(text, text))
    assert code == errors.Code.INVALID_ARGUMENT
    percent_encoded = urllib.parse.quote(message.encode())
    in_base64 = sum(len(key) + 4 * len(value) / 3 for key, value in trailers)
    assert len(percent_encoded) + in_base64 < 8000
    assert message.startswith(letter.encode(errors="replace").decode() * 100)
