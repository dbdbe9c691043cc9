"""What callers may take, alone and of several workers together."""

from __future__ import annotations

import math

import pytest

from ranker.metrics.recorder import Recorder
from ranker.quota import Quota
from ranker.serving.quotas import LEAST_WAIT, CallerQuota, OverQuotaError, TakenHere
from tests.metrics.support import new_aggregates
from tests.serving.lists import a_list, make

TEN_A_SECOND = Quota(requests_per_second=10.0)


def take(quota: CallerQuota, now: float, rows: int = 1, deadline: float = math.inf) -> bool:
    try:
        quota.take(rows, now, deadline)
    except OverQuotaError:
        return False
    return True


def refusal(quota: CallerQuota, now: float, deadline: float = math.inf) -> OverQuotaError:
    with pytest.raises(OverQuotaError) as caught:
        quota.check(now, deadline)
    return caught.value


def test_a_second_s_worth_at_once_and_then_at_the_rate():
    quota = CallerQuota(TEN_A_SECOND, TakenHere(), 0.0)
    assert [take(quota, 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    taken = sum(take(quota, 0.0 + step / 1000) for step in range(1, 10_001))
    assert taken == pytest.approx(100, abs=1)
    assert sum(take(quota, 1000.0) for _ in range(50)) == 10, "no more for having been quiet"


def test_candidates_are_paid_for_afterwards():
    quota = CallerQuota(Quota(candidates_per_second=100.0), TakenHere(), 0.0)
    assert take(quota, 0.0, rows=1000)
    error = refusal(quota, 1.0)
    assert error.retry_after == pytest.approx(8.01)
    assert not take(quota, 9.0)
    assert take(quota, 9.1)


def test_a_refusal_says_when_to_retry_and_whether_that_is_in_time():
    quota = CallerQuota(Quota(requests_per_second=0.5), TakenHere(), 0.0)
    assert take(quota, 0.0)
    error = refusal(quota, 0.5, deadline=10.0)
    assert (error.reason, error.in_time) == ("quota", True)
    assert error.retry_after == pytest.approx(1.5)
    assert "0.5 requests a second" in error.message
    assert not refusal(quota, 0.5, deadline=1.9).in_time
    assert take(quota, 0.5 + error.retry_after)


def test_a_refusal_never_says_to_retry_at_once():
    quota = CallerQuota(Quota(requests_per_second=1.0), TakenHere(), 0.0)
    assert take(quota, 0.0)
    assert refusal(quota, 1.0 - 1e-9).retry_after == LEAST_WAIT


def test_both_limits_hold():
    quota = CallerQuota(Quota(5.0, 100.0), TakenHere(), 0.0)
    assert [take(quota, 0.0, rows=40) for _ in range(4)] == [True, True, True, False]
    assert "candidates" in refusal(quota, 0.0).message


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("spread", [True, False])
def test_workers_share_a_caller_s_quota(workers, spread):
    aggregates = new_aggregates(workers=workers)
    aggregates.name_callers(["dns:a"])
    recorders = [Recorder(aggregates, index) for index in range(workers)]
    quotas = [CallerQuota(TEN_A_SECOND, each.caller("dns:a"), 0.0) for each in recorders]
    asked = 1000  # 10 seconds of 10 times as much as it may
    taken = sum(take(quotas[step % workers if spread else 0], step / 100) for step in range(asked))
    assert taken == pytest.approx(10 + 100, abs=2)
    for each in recorders:
        each.close()


def test_a_worker_that_takes_another_s_place_goes_on_counting():
    aggregates = new_aggregates()
    aggregates.name_callers(["dns:a"])
    first = Recorder(aggregates)
    quota = CallerQuota(TEN_A_SECOND, first.caller("dns:a"), 0.0)
    assert sum(take(quota, 0.0) for _ in range(20)) == 10
    first.close()
    second = Recorder(aggregates)
    assert second.caller("dns:a").total() == (10.0, 10.0)
    second.close()


class TestQueue:
    """A caller's part of the queue."""

    quota = Quota(queue_share=0.3)

    def of(self, rows: int, quota: CallerQuota | None):
        task = a_list(rows, caller="x" if quota else "b")
        task.quota = quota
        return task

    def test_no_more_of_a_caller_s_lists_wait_than_its_part(self):
        queue, quota = (
            make(max_queue_rows=100, max_batch_rows=20),
            CallerQuota(self.quota, TakenHere(), 0.0),
        )
        queue.put(self.of(20, quota), self.of(10, quota))
        with pytest.raises(OverQuotaError, match="part of the queue"):
            queue.put(self.of(1, quota))
        queue.put(self.of(20, None))
        assert (queue.rows, quota.rows) == (50, 30)
        queue.take(0.0)
        queue.put(self.of(20, quota))

    def test_what_leaves_the_queue_unscored_is_given_back(self):
        queue, quota = make(max_queue_rows=100), CallerQuota(self.quota, TakenHere(), 0.0)
        gone = self.of(30, quota)
        queue.put(gone)
        gone.cancelled = True
        queue.take(0.0)
        assert (quota.rows, quota.size) == (0, 0)

    def test_what_is_not_let_in_is_not_held(self):
        queue, quota = make(max_queue_rows=100), CallerQuota(self.quota, TakenHere(), 0.0)
        queue.put(self.of(95, None))
        with pytest.raises(Exception, match="full of candidates"):
            queue.put(self.of(10, quota))
        assert quota.rows == 0

    def test_a_long_list_is_let_in_where_no_other_of_the_caller_s_waits(self):
        queue, quota = make(max_queue_rows=100), CallerQuota(self.quota, TakenHere(), 0.0)
        queue.put(self.of(50, quota))
        assert quota.rows == 50
