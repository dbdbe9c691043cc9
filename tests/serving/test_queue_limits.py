"""Whom the queue lets in."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from ranker.serving.admission import (
    HEADROOM,
    FullOfBytesError,
    FullOfRowsError,
    FullShareError,
    RefusedError,
    TooLateError,
)
from tests.serving.lists import a_list, costing, make


def test_the_queue_of_a_slow_model_keeps_no_list_of_a_fast_one_out():
    slow, fast = costing(0.0, 1e-3), costing(0.0, 1e-6)
    queue = make(costs=[slow, fast], max_batch_rows=100)
    queue.put(*[a_list(100) for _ in range(50)])
    queue.check(0.2)
    queue.put(a_list(100, model=1, deadline=0.2))
    with pytest.raises(TooLateError):
        queue.put(a_list(100, deadline=5.0))


@pytest.mark.parametrize("seed", range(20))
def test_no_list_waits_longer_than_was_predicted(seed):
    """For all models together, if scoring takes what it is predicted to."""
    random = np.random.default_rng(seed)
    costs = [costing(*random.uniform((0.0, 1e-6), (1e-3, 1e-4))) for _ in range(3)]
    queue = make(costs=costs, max_batch_rows=500, max_queue_rows=10**6)
    for _ in range(random.integers(1, 60)):
        queue.put(a_list(int(random.integers(1, 600)), model=int(random.integers(3))))
    for _ in range(random.integers(5)):
        queue.take(0.0)
    last = a_list(int(random.integers(1, 600)), model=int(random.integers(3)))
    own = costs[last.model].predict(last.rows)
    predicted = queue.ahead(queue.batchers[last.model], last.rows) + own
    queue.put(last)
    took = 0.0
    while last.taken < last.rows:
        took += queue.take(0.0).cost
    batch = max(cost.fixed + cost.predict(500) for cost in costs)
    assert took <= predicted + batch


def test_the_queue_is_bounded_in_rows():
    queue = make(max_queue_rows=100)
    queue.put(a_list(50), a_list(33, caller="b"))
    with pytest.raises(FullOfRowsError) as caught:
        queue.put(a_list(18, caller="c"))
    assert caught.value.reason == "queue_rows"
    assert caught.value.retry_after > 0.0


def test_the_queue_is_bounded_in_bytes():
    queue = make(max_queue_bytes=100)
    queue.put(a_list(12), a_list(8, caller="b"))
    with pytest.raises(FullOfBytesError) as caught:
        queue.put(a_list(6, caller="c"))
    assert caught.value.reason == "queue_bytes"


def test_a_list_beyond_the_bound_is_served_when_nothing_else_waits():
    queue = make(max_queue_rows=100, max_queue_bytes=100)
    queue.put(a_list(500))
    assert queue.take(0.0).rows == 500


def test_a_deadline_that_the_queue_would_miss_is_refused():
    queue = make(costs=[costing(0.0, 0.001)])  # a second per 1000 rows
    queue.put(*[a_list(100) for _ in range(10)])
    queue.put(a_list(100, deadline=HEADROOM[0] * 1.0 + 0.11))
    with pytest.raises(TooLateError) as caught:
        queue.put(a_list(100, deadline=HEADROOM[0] * 1.1 + 0.09))
    assert caught.value.retry_after == pytest.approx(1.1)


def test_a_short_list_does_not_wait_for_long_ones():
    """It waits for a batch of theirs, and not for all of what waits before it."""
    queue = make(costs=[costing(0.0, 1e-5)], max_batch_rows=1000, max_queue_rows=10**6)
    queue.put(*[a_list(10_000) for _ in range(10)])  # a second's work
    with pytest.raises(TooLateError):
        queue.put(a_list(1000, deadline=0.5))
    short = a_list(10, deadline=0.05)
    queue.put(short)
    took = 0.0
    while short.taken < short.rows:
        took += queue.take(0.0).cost
    assert took < 0.05


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("per_row", [0.0, 1e-15, 1e-9, 1e-7, 1e-6])
def test_whatever_rows_are_taken_to_cost_there_is_room_for_an_unread_list(per_row, models):
    """Where all lists have one length, their fixed costs can't be told from those of their rows."""
    queue = make(models=models, max_queue_rows=100_000)
    for _ in range(300):
        queue.put(a_list(20), a_list(20, deadline=1.0))
        queue.take(0.0)
    for batcher in queue.batchers:
        batcher.cost = costing(1e-5, per_row)
    queue.put(a_list(20))
    queue.check(1.0)


def test_an_unread_list_of_a_connection_that_waits_is_taken_for_the_shortest_of_late():
    queue = make(max_queue_rows=1000)
    for _ in range(200):
        queue.put(a_list(100), a_list(100))
        queue.take(0.0)
    queue.put(a_list(100, caller="9"), *[a_list(100, caller=str(i)) for i in range(8)])
    queue.check(1.0, caller="new")
    with pytest.raises(FullShareError):
        queue.check(1.0, caller="7")


def test_the_batch_in_flight_counts_too():
    queue = make(costs=[costing(0.0, 0.001)])
    queue.busy_until = 0.8
    with pytest.raises(TooLateError):
        queue.put(a_list(100, deadline=1.0))
    queue.put(a_list(100, deadline=HEADROOM[0] * 0.8 + 0.11))


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda queue, until: queue.check(until), id="unread"),
        pytest.param(lambda queue, until: queue.put(a_list(1, deadline=until)), id="read"),
    ],
)
def test_what_is_scored_now_and_time_unread_count_towards_a_deadline(ask):
    queue = make(costs=[costing(0.0, 0.001)])
    queue.put(*[a_list(100) for _ in range(5)])
    queue.busy_until, queue.unread_since, queue.read_until = 0.3, -0.2, 0.1
    busy = HEADROOM[0] * 0.3
    ask(queue, HEADROOM[0] * 0.5 + busy + 0.22)
    with pytest.raises(TooLateError):
        ask(queue, HEADROOM[0] * 0.5 + busy + 0.18)


def test_a_list_tells_of_the_headroom_only_if_it_had_to_wait():
    queue = make(costs=[costing(0.0, 0.001)])
    first, second = a_list(10), a_list(10)
    queue.put(first)
    queue.put(second)
    assert (first.waited, second.waited) == (False, True)


def test_a_pause_of_the_machine_is_forgotten_though_it_keeps_lists_out():
    """Bursts whose lists wait for each other, and are in time if the pace is what it was."""
    queue = make(costs=[costing(0.0, 1e-5)], max_batch_rows=100)
    queue.put(a_list(200))
    queue.take(0.0)
    queue.take(10.0)  # ten seconds for a millisecond's work
    now, refused = 10.0, []
    for _ in range(200):
        now += 0.005
        refused.append(0)
        for _ in range(8):
            try:
                queue.put(a_list(10, deadline=now + 0.05), now=now)
            except TooLateError:
                refused[-1] += 1
        while queue.take(now):
            pass
    assert refused[-1] == 0


def test_an_idle_engine_takes_what_it_is_predicted_to_miss():
    cost = costing(10.0, 0.0)
    queue = make(costs=[cost])
    queue.put(a_list(1, deadline=0.01))
    assert queue.take(0.0).rows == 1


def test_one_connection_can_not_fill_the_queue():
    queue = make(max_queue_rows=100)
    queue.put(*[a_list(5) for _ in range(15)])
    with pytest.raises(FullShareError) as caught:
        queue.put(a_list(5))
    assert caught.value.reason == "connection_share"
    queue.put(a_list(18, caller="b"))


def test_the_last_part_is_kept_for_connections_that_have_next_to_nothing():
    """However long the lists of all others are, a newcomer's short one has room."""
    queue = make(max_queue_rows=1000)
    for each in range(40):
        with contextlib.suppress(RefusedError):
            queue.put(a_list(100, caller=str(each)))
    assert queue.rows == 900
    for caller in ("b", "c", "d"):
        queue.check(1.0, caller=caller)
        queue.put(a_list(5, caller=caller))
    with pytest.raises(FullShareError):
        queue.put(a_list(40, caller="e"))
    with pytest.raises(FullShareError):
        queue.put(a_list(40, caller="0"))


def test_two_connections_may_fill_most_of_the_queue():
    queue = make(max_queue_rows=1000)
    for _ in range(5):
        queue.put(a_list(90, caller="a"), a_list(90, caller="b"))
    assert queue.rows == 900


def test_connections_have_equal_shares_of_a_queue_that_fills():
    queue = make(max_queue_rows=1000)
    lists = []
    for _ in range(500):
        for caller in "abcd":
            try:
                queue.put(a_list(1, caller=caller))
            except RefusedError:
                continue
            lists.append(caller)
    counts = {caller: lists.count(caller) for caller in "abcd"}
    assert sum(counts.values()) == 937  # fifteen sixteenths
    assert max(counts.values()) - min(counts.values()) <= 1


def test_what_leaves_gives_its_share_back():
    queue = make(max_queue_rows=100, max_batch_rows=10)
    for _ in range(20):
        queue.put(*[a_list(5) for _ in range(15)])
        while queue.take(0.0):
            pass
    queue.put(*[a_list(5) for _ in range(15)])


def test_what_was_dropped_gives_its_share_back():
    queue = make(max_queue_rows=100)
    for now in range(20):
        queue.put(*[a_list(5, deadline=now + 0.5) for _ in range(15)], now=now)
        batch = queue.take(now + 0.9)
        assert len(batch.dropped) == 15
