"""What callers may take, alone and of several workers together."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.metrics.recorder import Recorder
from ranker.quota import Quota
from ranker.serving.quotas import LEAST_WAIT, CallerQuota, OverQuotaError, TakenHere
from tests.metrics.support import new_aggregates
from tests.serving.lists import a_list, make

TEN_A_SECOND = Quota(requests_per_second=10.0)


class Workers:
    """Those of a server, and their quotas for one caller."""

    def __init__(self, recorders: list[Recorder]) -> None:
        self._recorders = recorders

    def quota(self, worker: int, quota: Quota) -> CallerQuota:
        return CallerQuota(quota, self._recorders[worker].caller("dns:a"))

    def with_quota(self, quota: Quota) -> list[CallerQuota]:
        return [self.quota(worker, quota) for worker in range(len(self._recorders))]


@contextmanager
def started(workers: int) -> Iterator[Workers]:
    aggregates = new_aggregates(workers=workers)
    aggregates.name_callers(["dns:a"])
    recorders = [Recorder(aggregates, index) for index in range(workers)]
    try:
        yield Workers(recorders)
    finally:
        for each in recorders:
            each.close()
        os.close(aggregates.fd)


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
    quota = CallerQuota(TEN_A_SECOND, TakenHere())
    assert [take(quota, 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    taken = sum(take(quota, 0.0 + step / 1000) for step in range(1, 10_001))
    assert taken == pytest.approx(100, abs=1)
    assert sum(take(quota, 1000.0) for _ in range(50)) == 10, "no more for having been quiet"


def test_candidates_are_paid_for_afterwards():
    quota = CallerQuota(Quota(candidates_per_second=100.0), TakenHere())
    assert take(quota, 0.0, rows=1000)
    error = refusal(quota, 1.0)
    assert error.retry_after == pytest.approx(8.01)
    assert not take(quota, 9.0)
    assert take(quota, 9.1)


def test_a_refusal_says_when_to_retry_and_whether_that_is_in_time():
    quota = CallerQuota(Quota(requests_per_second=0.5), TakenHere())
    assert take(quota, 0.0)
    error = refusal(quota, 0.5, deadline=10.0)
    assert (error.reason, error.in_time) == ("quota", True)
    assert error.retry_after == pytest.approx(1.5)
    assert "0.5 requests a second" in error.message
    assert not refusal(quota, 0.5, deadline=1.9).in_time
    assert take(quota, 0.5 + error.retry_after)


def test_a_refusal_never_says_to_retry_at_once():
    quota = CallerQuota(Quota(requests_per_second=1.0), TakenHere())
    assert take(quota, 0.0)
    assert refusal(quota, 1.0 - 1e-9).retry_after == LEAST_WAIT


def test_both_limits_hold():
    quota = CallerQuota(Quota(5.0, 100.0), TakenHere())
    assert [take(quota, 0.0, rows=40) for _ in range(4)] == [True, True, True, False]
    assert "candidates" in refusal(quota, 0.0).message


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("spread", [True, False])
def test_workers_share_a_caller_s_quota(workers, spread):
    asked = 1000  # 10 seconds of 10 times as much as it may
    with started(workers) as server:
        quotas = server.with_quota(TEN_A_SECOND)
        taken = sum(
            take(quotas[step % workers if spread else 0], step / 100) for step in range(asked)
        )
    assert taken == pytest.approx(10 + 100, abs=2)


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("in_turn", [True, False])
def test_several_workers_give_no_more_after_a_pause(workers, in_turn):
    with started(workers) as server:
        quotas = server.with_quota(TEN_A_SECOND)
        asked = 50 * workers
        for now in (0.0, 100.0, 5000.0):
            each = [quotas[i % workers if in_turn else i // 50] for i in range(asked)]
            assert sum(take(quota, now) for quota in each) == 10


def test_several_workers_let_one_long_list_in_after_a_pause():
    with started(4) as server:
        quotas = server.with_quota(Quota(candidates_per_second=100.0))
        assert [take(quota, 0.0, rows=1000) for quota in quotas] == [True, False, False, False]
        assert [take(quota, 100.0, rows=1000) for quota in quotas] == [True, False, False, False]


class OneBucket:
    """What several workers together have to do: no sharing, and no rule but that of a bucket."""

    def __init__(self, rate: float) -> None:
        self.rate = self.level = rate
        self.at = 0.0

    def has_any(self, now: float) -> bool:
        self.level = min(self.level + self.rate * (now - self.at), self.rate)
        self.at = now
        return self.level >= 1.0


EXACT = Quota(requests_per_second=8.0, candidates_per_second=64.0)
"""With times in sixty-fourths of a second, so that sums have no error and each decision is sure."""


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0, 1, 2, 8, 60, 64, 100, 1000, 10**6]),
            st.integers(0, 2),
            st.sampled_from([1, 3, 20, 500]),
        ),
        max_size=120,
    )
)
def test_several_workers_do_as_one_bucket_does(events):
    """Whatever pauses there are, of all of them and of each."""
    requests, candidates = OneBucket(8.0), OneBucket(64.0)
    now, given_by_one, given_by_workers = 0.0, [], []
    with started(3) as server:
        quotas = server.with_quota(EXACT)
        for pause, worker, rows in events:
            now += pause / 64
            given_by_workers.append(take(quotas[worker], now, rows))
            is_given = requests.has_any(now) & candidates.has_any(now)
            requests.level -= is_given
            candidates.level -= is_given * rows
            given_by_one.append(is_given)
    assert given_by_workers == given_by_one


def test_another_quota_begins_with_a_full_second_s_worth():
    """One that was served before, too; and while some workers have it and others have not."""
    with started(2) as server:
        before = server.with_quota(Quota(requests_per_second=20.0))
        assert all(take(before[step % 2], step / 20) for step in range(20 * 3600))
        lower = [server.quota(0, TEN_A_SECOND), before[1]]
        assert sum(take(lower[0], 3600.0) for _ in range(50)) == 10
        assert take(lower[1], 3600.0)
        lower[1] = server.quota(1, TEN_A_SECOND)
        assert sum(take(quota, 3602.0) for quota in lower for _ in range(50)) == 10
        again = server.with_quota(Quota(requests_per_second=20.0))
        assert sum(take(quota, 3602.0) for quota in again for _ in range(50)) == 20


def test_a_worker_that_is_replaced_does_not_fill_the_bucket():
    with started(2) as server:
        first, second = server.with_quota(TEN_A_SECOND)
        assert sum(take(quota, 0.0) for quota in (first, second) for _ in range(8)) == 10
        assert take(first, 100.0)
        assert sum(take(second, 100.0) for _ in range(20)) == 9
        assert not take(server.quota(1, TEN_A_SECOND), 100.0)


def test_a_worker_that_is_replaced_forgives_no_debt():
    long = Quota(candidates_per_second=1000.0)
    with started(2) as server:
        first, second = server.with_quota(long)
        assert take(first, 0.0, rows=100_000)
        first = server.quota(0, long)
        for quota in (first, second):
            assert refusal(quota, 1.0).retry_after == pytest.approx(98.001)
        assert take(first, 99.1)


def test_of_a_quota_only_what_is_changed_begins_anew():
    quota = Quota(10.0, 100.0, 0.5)
    with started(1) as server:
        assert take(server.quota(0, quota), 0.0, rows=1000)
        another_share = server.quota(0, Quota(10.0, 100.0, 0.6))
        another_rate = server.quota(0, Quota(20.0, 100.0, 0.6))
        assert "candidates" in refusal(another_share, 0.0).message
        assert "candidates" in refusal(another_rate, 0.0).message
        assert take(server.quota(0, Quota(20.0, 200.0, 0.6)), 0.0)


def test_a_limit_that_is_taken_away_and_set_again_begins_anew():
    with started(1) as server:
        assert take(server.quota(0, Quota(10.0, 100.0)), 0.0, rows=1000)
        server.quota(0, Quota(10.0))
        assert take(server.quota(0, Quota(10.0, 100.0)), 0.0)


def test_a_worker_that_takes_another_s_place_goes_on_counting():
    aggregates = new_aggregates()
    aggregates.name_callers(["dns:a"])
    first = Recorder(aggregates)
    quota = CallerQuota(TEN_A_SECOND, first.caller("dns:a"))
    assert sum(take(quota, 0.0) for _ in range(20)) == 10
    first.close()
    second = Recorder(aggregates)
    assert second.caller("dns:a").requests.read(1.0)[0] == 10.0
    assert second.caller("dns:a").candidates.read(1.0)[0] == 10.0
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
            CallerQuota(self.quota, TakenHere()),
        )
        queue.put(self.of(20, quota), self.of(10, quota))
        with pytest.raises(OverQuotaError, match="part of the queue"):
            queue.put(self.of(1, quota))
        queue.put(self.of(20, None))
        assert (queue.rows, quota.rows) == (50, 30)
        queue.take(0.0)
        queue.put(self.of(20, quota))

    def test_what_leaves_the_queue_unscored_is_given_back(self):
        queue, quota = make(max_queue_rows=100), CallerQuota(self.quota, TakenHere())
        gone = self.of(30, quota)
        queue.put(gone)
        gone.cancelled = True
        queue.take(0.0)
        assert (quota.rows, quota.size) == (0, 0)

    def test_what_is_not_let_in_is_not_held(self):
        queue, quota = make(max_queue_rows=100), CallerQuota(self.quota, TakenHere())
        queue.put(self.of(95, None))
        with pytest.raises(Exception, match="full of candidates"):
            queue.put(self.of(10, quota))
        assert quota.rows == 0

    def test_a_long_list_is_let_in_where_no_other_of_the_caller_s_waits(self):
        queue, quota = make(max_queue_rows=100), CallerQuota(self.quota, TakenHere())
        queue.put(self.of(50, quota))
        assert quota.rows == 50
