import math
import time

import pytest

from ranker.errors import Code
from ranker.transport.trailers import why_gone
from tests.fakes import FakeCall


@pytest.mark.parametrize(
    ("left", "code"),
    [
        pytest.param(-1.0, Code.DEADLINE_EXCEEDED, id="late"),
        # gRPC sends 10.001 s as 10.1 s.
        pytest.param(0.09, Code.DEADLINE_EXCEEDED, id="rounded-up"),
        pytest.param(5.0, Code.CANCELLED, id="early"),
        pytest.param(math.inf, Code.CANCELLED, id="no-deadline"),
    ],
)
def test_why_a_caller_has_gone(left: float, code: Code):
    now = time.monotonic()
    call = FakeCall(deadline=now + left)
    call.arrived = now - 10.0
    assert why_gone(call) is code
