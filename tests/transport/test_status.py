import math
import time

import grpc
import pytest

from ranker.transport.status import why_gone
from tests.fakes import FakeCall


@pytest.mark.parametrize(
    ("left", "code"),
    [
        pytest.param(-1.0, grpc.StatusCode.DEADLINE_EXCEEDED, id="late"),
        # gRPC sends 10.001 s as 10.1 s.
        pytest.param(0.09, grpc.StatusCode.DEADLINE_EXCEEDED, id="rounded-up"),
        pytest.param(5.0, grpc.StatusCode.CANCELLED, id="early"),
        pytest.param(math.inf, grpc.StatusCode.CANCELLED, id="no-deadline"),
    ],
)
def test_why_a_caller_has_gone(left: float, code: grpc.StatusCode):
    now = time.monotonic()
    call = FakeCall(deadline=now + left)
    call.arrived = now - 10.0
    assert why_gone(call) is code
