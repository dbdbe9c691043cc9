"""Errors over HTTP."""

import json

import pytest

from ranker.errors import OverloadedError
from ranker.office.problem import problem


@pytest.mark.parametrize(
    ("retry_after", "status", "header"),
    [
        pytest.param(0.2, 429, "1", id="a-full-queue"),
        pytest.param(0.0, 413, None, id="a-message-that-gRPC-refuses"),
    ],
)
def test_exhausted_is_a_matter_of_time_or_of_size(retry_after, status, header):
    response = problem("/v1/models/m:rank", OverloadedError("no", retry_after))
    assert (response.status_code, response.headers.get("Retry-After")) == (status, header)
    assert json.loads(response.body)["status"] == status
