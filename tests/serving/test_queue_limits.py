"""Whom the batcher lets into its queue."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.serving.admission import HEADROOM, FullOfBytesError, FullOfRowsError, TooLateError
from tests.serving.batches import costing, job, make, put


def test_the_queue_of_a_slow_model_keeps_no_list_of_a_fast_one_out():
    slow, fast = costing(0.0, 1e-3), costing(0.0, 1e-6)
    batcher = make(costs=[slow, fast], max_batch_rows=100)
    put(batcher, job(5000))
    batcher.check(0.2, 0.0)
    put(batcher, job(100, model=1, deadline=0.2))
    with pytest.raises(TooLateError):
        put(batcher, job(100, deadline=5.0))


@pytest.mark.parametrize("seed", range(20))
def test_no_list_waits_longer_than_was_predicted(seed):
    """For all models together, if scoring takes what it is predicted to."""
    random = np.random.default_rng(seed)
    costs = [costing(*random.uniform((0.0, 1e-6), (1e-3, 1e-4))) for _ in range(3)]
    batcher = make(costs=costs, max_batch_rows=500, max_queue_rows=10**6)
    for _ in range(random.integers(1, 60)):
        put(batcher, job(int(random.integers(1, 600)), model=int(random.integers(3))))
    for _ in range(random.integers(5)):
        batcher.take(0.0)
    last = job(int(random.integers(1, 600)), model=int(random.integers(3)))
    own = costs[last.model].predict(last.rows)
    predicted = batcher.ahead(last.model, own) + own
    put(batcher, last)
    took = 0.0
    while last.taken < last.rows:
        took += batcher.take(0.0).cost
    batch = max(cost.fixed + cost.predict(500) for cost in costs)
    assert took <= predicted + batch


def test_the_queue_is_bounded_in_rows():
    batcher = make(max_queue_rows=100)
    put(batcher, job(60), job(40))
    with pytest.raises(FullOfRowsError) as caught:
        put(batcher, job(1))
    assert caught.value.reason == "queue_rows"
    assert caught.value.retry_after > 0.0


def test_the_queue_is_bounded_in_bytes():
    batcher = make(max_queue_bytes=100)
    put(batcher, job(20))
    with pytest.raises(FullOfBytesError) as caught:
        put(batcher, job(10))
    assert caught.value.reason == "queue_bytes"


def test_a_list_beyond_the_bound_is_served_when_nothing_else_waits():
    batcher = make(max_queue_rows=100, max_queue_bytes=100)
    put(batcher, job(500))
    assert batcher.take(0.0).rows == 500


def test_a_deadline_that_the_queue_would_miss_is_refused():
    batcher = make(costs=[costing(0.0, 0.001)])  # a second per 1000 rows
    put(batcher, job(1000))
    put(batcher, job(100, deadline=HEADROOM[0] * 1.0 + 0.11))
    with pytest.raises(TooLateError) as caught:
        put(batcher, job(100, deadline=HEADROOM[0] * 1.1 + 0.09))
    assert caught.value.retry_after == pytest.approx(1.1)


def test_the_batch_in_flight_counts_too():
    batcher = make(costs=[costing(0.0, 0.001)])
    with pytest.raises(TooLateError):
        batcher.admit(job(100, deadline=1.0), 0.0, busy=0.8)
    batcher.admit(job(100, deadline=HEADROOM[0] * 0.8 + 0.11), 0.0, busy=0.8)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda b, until, **t: b.check(until, 0.0, **t), id="unread"),
        pytest.param(lambda b, until, **t: b.admit(job(1, deadline=until), 0.0, **t), id="read"),
    ],
)
def test_what_is_scored_now_and_time_unread_count_towards_a_deadline(ask):
    batcher = make(costs=[costing(0.0, 0.001)])
    put(batcher, job(500))
    busy = HEADROOM[0] * 0.3
    ask(batcher, HEADROOM[0] * 0.5 + busy + 0.22, busy=0.3, unread=0.2)
    with pytest.raises(TooLateError):
        ask(batcher, HEADROOM[0] * 0.5 + busy + 0.18, busy=0.3, unread=0.2)


def test_a_list_tells_of_the_headroom_only_if_it_had_to_wait():
    batcher = make(costs=[costing(0.0, 0.001)])
    first, second = job(10), job(10)
    put(batcher, first)
    put(batcher, second)
    assert (first.waited, second.waited) == (False, True)


def test_a_pause_of_the_machine_is_forgotten_though_it_keeps_lists_out():
    """Bursts whose lists wait for each other, and are in time if the pace is what it was."""
    batcher = make(costs=[costing(0.0, 1e-5)], max_batch_rows=100)
    put(batcher, job(200))
    batcher.take(0.0)
    batcher.take(10.0)  # ten seconds for a millisecond's work
    now, refused = 10.0, []
    for _ in range(200):
        now += 0.005
        refused.append(0)
        for _ in range(8):
            try:
                put(batcher, job(10, deadline=now + 0.05), now=now)
            except TooLateError:
                refused[-1] += 1
        while batcher.take(now):
            pass
    assert refused[-1] == 0


def test_an_idle_engine_takes_what_it_is_predicted_to_miss():
    cost = costing(10.0, 0.0)
    batcher = make(costs=[cost])
    put(batcher, job(1, deadline=0.01))
    assert batcher.take(0.0).rows == 1
