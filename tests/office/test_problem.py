"""Errors over HTTP."""

import json

import pytest
from google.rpc import status_pb2

from ranker.errors import Code, OverloadedError, RankerError
from ranker.metrics.catalogue import HTTP_STATUS
from ranker.office.problem import STATUS, problem
from ranker.status import from_status
from ranker.transport.trailers import on_the_wire


def said_by_a_worker(retry_after: float) -> RankerError:
    """A refusal, as the office has it from a worker."""
    *_, trailers = on_the_wire(OverloadedError("no", retry_after))
    return from_status(status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"]))


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        pytest.param(OverloadedError("no", 0.2), 429, "1", id="the-office-itself"),
        pytest.param(OverloadedError("no", 0.0), 429, "1", id="the-office-itself-at-once"),
        pytest.param(said_by_a_worker(1.2), 429, "2", id="a-worker"),
        pytest.param(said_by_a_worker(0.0004), 429, "1", id="a-worker-for-less-than-it-can-say"),
        pytest.param(said_by_a_worker(0.0), 429, "1", id="a-worker-for-no-time"),
        pytest.param(
            from_status(status_pb2.Status(code=Code.RESOURCE_EXHAUSTED, message="no")),
            413,
            None,
            id="gRPC-for-a-large-message",
        ),
    ],
)
def test_exhausted_is_a_matter_of_time_or_of_size(error, status, header):
    response = problem("/v1/models/m:rank", error)
    assert (response.status_code, response.headers.get("Retry-After")) == (status, header)
    assert json.loads(response.body)["status"] == status


def test_each_status_of_an_error_is_counted_as_itself():
    assert {str(status) for status in STATUS.values()} <= {value for (value,) in HTTP_STATUS.values}
