"""Refusals that are held back, and for how long."""

from __future__ import annotations

import gc
import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from ranker.errors import OverloadedError
from ranker.quota import Quota
from ranker.refusal_pace import BEFORE_DEADLINE, LONGEST_HELD
from ranker.serving.paced_refusals import PacedRefusals
from ranker.serving.quotas import (
    REFUSALS_AT_ONCE,
    REFUSALS_PER_SECOND,
    CallerQuota,
    TakenHere,
)

ERROR = OverloadedError("too much", 0.1)


class Refused:
    """Paced refusals, and those whose time has come."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.paced = PacedRefusals(lambda task, _: self.names.append(task.name))

    def hold(self, name: str, wait: float, deadline: float = math.inf) -> None:
        self.paced.hold(SimpleNamespace(name=name, deadline=deadline), ERROR, 10.0, wait)


@pytest.fixture
def refused() -> Refused:
    return Refused()


def test_one_that_need_not_wait_is_refused_at_once(refused):
    refused.hold("a", 0.0)
    assert refused.names == ["a"]
    assert refused.paced.answer(10.0) == math.inf


def test_they_are_refused_when_they_are_due(refused):
    for name, wait in (("c", 0.3), ("a", 0.1), ("b", 0.2), ("b2", 0.2)):
        refused.hold(name, wait)
    assert refused.paced.answer(10.0) == pytest.approx(0.1)
    assert refused.names == []
    assert refused.paced.answer(10.2) == pytest.approx(0.1)
    assert refused.names == ["a", "b", "b2"]
    assert refused.paced.answer(math.inf) == math.inf
    assert refused.names == ["a", "b", "b2", "c"]


def test_one_that_is_held_back_keeps_no_message(refused):
    message = np.zeros(1000)
    kept = weakref.ref(message)

    def read(message: np.ndarray) -> None:
        raise OverloadedError(f"{message.size} bytes are too much", 0.1)

    try:
        read(message)
    except OverloadedError as error:
        refused.paced.hold(SimpleNamespace(name="a", deadline=math.inf), error, 10.0, 0.5)
    del message
    gc.collect()
    assert kept() is None


def test_none_waits_beyond_its_deadline(refused):
    refused.hold("late", 0.5, deadline=10.0 + BEFORE_DEADLINE / 2)
    assert refused.names == ["late"]
    refused.hold("soon", 0.5, deadline=10.1)
    assert refused.paced.answer(10.0) == pytest.approx(0.1 - BEFORE_DEADLINE)


@pytest.fixture
def quota() -> CallerQuota:
    return CallerQuota(Quota(requests_per_second=1.0), TakenHere())


def test_a_caller_that_is_over_its_quota_now_and_then_hears_at_once(quota):
    assert [quota.refusal_wait(1.0) for _ in range(int(REFUSALS_AT_ONCE))] == [0.0] * 20
    assert quota.refusal_wait(1.0) > 0.0
    assert [quota.refusal_wait(2.0 + second) for second in range(100)] == [0.0] * 100


@pytest.mark.parametrize("flood", [1.5, 10.0, 1000.0])
def test_one_that_floods_hears_so_often_and_no_more(quota, flood):
    """A flood of so many times what is refused in a second, for a second."""
    rate = flood * REFUSALS_PER_SECOND
    arrivals = [step / rate for step in range(int(rate))]
    answered = [now + quota.refusal_wait(now) for now in arrivals]
    assert answered == sorted(answered)
    waits = [answer - now for answer, now in zip(answered, arrivals, strict=True)]
    assert max(waits) < LONGEST_HELD + 1e-9
    within = sum(answer < LONGEST_HELD for answer in answered)
    assert within <= REFUSALS_AT_ONCE + REFUSALS_PER_SECOND * LONGEST_HELD
