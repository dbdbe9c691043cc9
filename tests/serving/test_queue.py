from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.serving.batcher import MIN_BATCH_ROWS, QUANTUM
from ranker.serving.cost import CostModel
from tests.serving.lists import WaitingList, a_list, costing, make, model_of


def test_an_empty_queue_gives_no_batch():
    assert make().take(0.0) is None


def test_all_that_waits_is_one_batch_in_order_of_arrival():
    queue = make()
    first, second, third = a_list(3), a_list(5), a_list(1)
    queue.put(first, second, third)
    batch = queue.take(0.0)
    assert batch.pieces == [(first, 0, 3), (second, 0, 5), (third, 0, 1)]
    assert batch.rows == 9
    assert queue.rows == 0
    assert queue.take(0.0) is None


def test_a_list_that_does_not_fit_is_split_and_goes_on_next():
    queue = make(max_batch_rows=100)
    first, second = a_list(70), a_list(60)
    queue.put(first, second)
    assert queue.take(0.0).pieces == [(first, 0, 70), (second, 0, 30)]
    assert queue.take(0.0).pieces == [(second, 30, 60)]


def test_a_batch_is_no_larger_than_pays():
    slow = make(costs=[costing(0.0, 1e-3)])
    slow.put(a_list(1000))
    assert slow.take(0.0).rows == MIN_BATCH_ROWS
    costly_start = make(costs=[costing(0.01, 1e-3)])
    costly_start.put(a_list(1000))
    assert costly_start.take(0.0).rows == 100  # 10 % of their time is the start's


@pytest.mark.parametrize(
    ("lists", "rows"),
    [
        pytest.param(1, 200, id="two-milliseconds"),
        pytest.param(3, 600, id="for-each-that-waits"),
        pytest.param(10, 800, id="up-to-eight"),
    ],
)
def test_a_batch_is_longer_the_more_lists_wait(lists, rows):
    queue = make(costs=[costing(0.0, 1e-5)], max_queue_rows=10**5)
    queue.put(*[a_list(900) for _ in range(lists)])
    assert queue.take(0.0).rows == rows


def test_a_list_that_the_end_of_a_batch_cuts_goes_on_before_those_behind_it():
    queue = make(max_batch_rows=100)
    first, second, third = a_list(70), a_list(60), a_list(60)
    queue.put(first, second, third)
    queue.take(0.0)
    assert queue.take(0.0).pieces == [(second, 30, 60), (third, 0, 60)]


def test_a_lone_long_list_fills_batches_by_itself():
    queue = make(max_batch_rows=1000)
    long = a_list(2500)
    queue.put(long)
    assert [queue.take(0.0).pieces for _ in range(3)] == [
        [(long, 0, 1000)],
        [(long, 1000, 2000)],
        [(long, 2000, 2500)],
    ]


def test_a_long_list_does_not_delay_a_short_one_behind_it():
    queue = make(max_batch_rows=1000)
    long, short = a_list(5000), a_list(10)
    queue.put(long, short)
    assert queue.take(0.0).pieces == [(short, 0, 10), (long, 0, 990)]


@pytest.mark.parametrize(
    ("room", "share"),
    [pytest.param(1000, QUANTUM, id="a-quantum"), pytest.param(100, 50, id="or-half-a-batch")],
)
def test_short_lists_do_not_starve_a_long_one(room, share):
    queue = make(max_batch_rows=room)
    long, shorts = a_list(5000), [a_list(10) for _ in range(400)]
    queue.put(long, *shorts)
    for number in range(3):
        batch = queue.take(0.0)
        assert (long, number * share, (number + 1) * share) in batch.pieces
        assert batch.rows == room


def test_long_lists_are_served_in_order_of_arrival():
    """And not all at once, so that the first would have its answer when the last has."""
    queue = make(max_batch_rows=1000)
    first, second, third = a_list(1500), a_list(1500), a_list(1500)
    queue.put(first, second, third)
    assert [queue.take(0.0).pieces for _ in range(3)] == [
        [(first, 0, 1000)],
        [(first, 1000, 1500), (second, 0, 500)],
        [(second, 500, 1500)],
    ]


def test_what_is_left_of_a_long_list_is_a_short_one():
    queue = make(max_batch_rows=1000, max_queue_rows=10**5)
    first, second, short = a_list(1010), a_list(5000), a_list(10)
    queue.put(first, second)
    queue.take(0.0)
    queue.put(short)
    assert queue.take(0.0).pieces == [(first, 1000, 1010), (short, 0, 10), (second, 0, 980)]


def test_cancelled_and_expired_lists_are_dropped_before_scoring():
    queue = make()
    gone, late, fine = a_list(5), a_list(5, deadline=1.0), a_list(5)
    queue.put(gone, late, fine)
    gone.cancelled = True
    batch = queue.take(1.0)
    assert batch.dropped == [gone, late]
    assert batch.pieces == [(fine, 0, 5)]


def test_a_batch_of_dropped_lists_only_has_no_pieces():
    queue = make(2)
    queue.put(a_list(5, deadline=1.0), a_list(7, model=1, deadline=1.0))
    batch = queue.take(2.0)
    assert len(batch.dropped) == 2
    assert not batch.pieces
    assert queue.rows == 0
    assert queue.take(2.0) is None


def test_a_job_dropped_between_its_batches_leaves_nothing_behind():
    queue = make(max_batch_rows=100, max_queue_bytes=1)
    long = a_list(250)
    queue.put(long)
    queue.take(0.0)
    long.cancelled = True
    batch = queue.take(0.0)
    assert batch.dropped == [long]
    assert queue.rows == 0
    queue.put(a_list())  # as the bytes are gone too, there is room


def test_a_batch_holds_one_model():
    queue = make(2)
    queue.put(a_list(5, model=0), a_list(6, model=1), a_list(7, model=0))
    batches = [queue.take(0.0), queue.take(0.0)]
    assert {(model_of(batch), batch.rows) for batch in batches} == {(0, 12), (1, 6)}


def test_models_share_the_engine_by_time_and_not_by_turns():
    slow, fast = costing(0.0, 1e-3), costing(0.0, 1e-5)
    queue = make(max_batch_rows=100, max_queue_rows=10**6, costs=[slow, fast])
    queue.put(*(a_list(100, model=m) for _ in range(300) for m in (0, 1)))
    given = [0.0, 0.0]
    for _ in range(202):
        batch = queue.take(0.0)
        given[model_of(batch)] += (slow, fast)[model_of(batch)].predict(batch.rows)
    assert given[0] == pytest.approx(given[1], abs=0.1)


def test_a_model_that_was_idle_gets_no_credit_for_it():
    queue = make(2, max_batch_rows=100)
    queue.put(*(a_list(100, model=0) for _ in range(50)))
    for _ in range(40):
        queue.take(0.0)
    queue.put(*(a_list(100, model=1) for _ in range(10)))
    turns = [model_of(queue.take(0.0)) for _ in range(6)]
    assert sorted(turns) == [0, 0, 0, 1, 1, 1]


def test_without_max_delay_nothing_waits():
    queue = make()
    queue.put(a_list(1))
    assert queue.due(0.0) == 0.0


def test_max_delay_waits_for_company_but_not_longer():
    queue = make(max_delay=0.01)
    queue.put(a_list(1, arrived=5.0), now=5.0)
    assert queue.take(5.005) is None
    assert queue.due(5.005) == pytest.approx(0.005)
    queue.put(a_list(2, arrived=5.006), now=5.006)
    assert queue.take(5.0101).rows == 3


def test_max_delay_does_not_hold_back_a_full_batch():
    queue = make(max_delay=10.0, max_batch_rows=20)
    queue.put(a_list(30))
    assert queue.take(0.0).rows == 20


def test_a_second_list_never_makes_the_first_wait_longer():
    queue = make(max_delay=10.0, costs=[costing(0.0, 1e-5)])
    queue.put(a_list(200))
    assert queue.due(0.0) == 0.0
    queue.put(a_list(10))
    assert queue.due(0.0) == 0.0


def test_waiting_for_company_is_no_slow_pace():
    queue = make(max_delay=10.0, max_batch_rows=20)
    queue.put(a_list(30))
    queue.take(0.0)
    assert queue.take(10.0).rows == 10
    queue.put(a_list(10, arrived=10.0), now=10.0)
    queue.put(a_list(10, arrived=10.0, deadline=10.01), now=10.0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_row_is_scored_once_or_its_job_dropped(data):
    limit = data.draw(st.integers(1, 700) | st.sampled_from([1024, 4096, 40_000]), "max_batch_rows")
    free = [CostModel() for _ in range(3)]  # so that no deadline is out of reach
    queue = make(costs=free, max_batch_rows=limit, max_queue_rows=10**9)
    lists: list[WaitingList] = []
    scored: dict[int, list[tuple[int, int]]] = {}
    dropped: list[WaitingList] = []
    now = 0.0

    def turn() -> bool:
        batch = queue.take(now)
        if batch is None:
            return False
        assert sum(stop - start for _, start, stop in batch.pieces) == batch.rows <= limit
        assert len({each.model for each, _, _ in batch.pieces}) <= 1
        assert len({id(each) for each, _, _ in batch.pieces}) == len(batch.pieces)
        for each, start, stop in batch.pieces:
            assert not each.cancelled
            assert each.deadline > now
            scored.setdefault(id(each), []).append((start, stop))
        dropped.extend(batch.dropped)
        return True

    for _ in range(data.draw(st.integers(1, 30), "steps")):
        step = data.draw(st.sampled_from(["put", "put", "take", "cancel", "wait"]))
        if step == "put":
            new = a_list(
                data.draw(st.integers(1, 1500)),
                data.draw(st.integers(0, 2)),
                now + data.draw(st.sampled_from([1e3, math.inf])),
                now,
            )
            queue.put(new, now=now)
            lists.append(new)
        elif step == "take":
            turn()
        elif step == "cancel" and lists:
            data.draw(st.sampled_from(lists)).cancelled = True
        elif step == "wait":
            now += 300.0
    while turn():
        pass
    assert queue.rows == 0
    assert all(queue.ahead(batcher, 1) == 0.0 for batcher in queue.batchers)
    assert all(batcher._lists == 0 for batcher in queue.batchers)
    for each in lists:
        parts = scored.get(id(each), [])
        assert parts == sorted(parts)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
        if each not in dropped:
            assert parts[0][0] == 0
            assert parts[-1][1] == each.rows
    assert len(dropped) == len(set(map(id, dropped)))
