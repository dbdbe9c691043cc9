"""What lists keep, or do not, that are let in or refused."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest

from ranker.callers import CallerPolicy
from ranker.errors import Code
from ranker.quota import Quota
from ranker.serving.callers import Callers
from ranker.serving.quotas import REFUSALS_AT_ONCE
from tests.fakes import FakeCall
from tests.serving.support import THREE, request
from tests.serving.test_explanations import Explaining

GREEDY = "dns:greedy.shop.test"


@pytest.fixture
def s() -> Iterator[Explaining]:
    serving = Explaining(max_queue_rows=1000)
    yield serving
    serving.close()


def test_a_list_whose_refusal_is_held_back_keeps_no_place_among_those_to_be_explained(s):
    """Else a caller that is over its part of the queue would have others refused for its lists."""
    s.aggregates.name_callers([GREEDY])
    s.intake.callers = callers = Callers(s.recorder)
    callers.serve(CallerPolicy((GREEDY,), {GREEDY: Quota(queue_share=0.006)}))
    calls = []
    for _ in range(round(2 * REFUSALS_AT_ONCE) + 2):
        call = FakeCall(deadline=time.monotonic() + 1000)
        call.names = [GREEDY]
        assert callers.refusal_of(call) is None
        s.send("Rank", call, request(THREE, explain=3))
        calls.append(call)
    let_in = s.queue.rows // len(THREE)
    assert let_in == 2
    assert s.intake.refusals.held
    assert len(s.explanations.lists) == let_in
    s.intake.refusals.answer(math.inf)
    assert [call.code for call in calls].count(Code.RESOURCE_EXHAUSTED) == len(calls) - let_in
    s.turn_until(lambda: all(call.over for call in calls))
    assert not s.explanations.lists
