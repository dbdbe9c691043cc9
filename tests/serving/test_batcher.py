"""Batches of short and of longer lists, and what is predicted of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.serving.batcher import QUANTUM, Batch, Batcher
from tests.serving.lists import WaitingList, a_list, costing, make


def test_what_a_batch_as_large_as_pays_would_save():
    queue = make(costs=[costing(0.002, 1e-5)], max_batch_rows=500)
    [batcher] = queue.batchers
    queue.put(*[a_list(100) for _ in range(6)])
    fullest, other = queue.take(0.0), queue.take(0.0)
    assert (fullest.rows, other.rows) == (500, 100)
    assert batcher.most_rows(other) == 500
    assert batcher.fuller_saves(fullest, 500) == 0.0
    # A fifth of a start is its part.
    assert batcher.fuller_saves(other, 500) == pytest.approx(0.8 * 0.002)


@pytest.mark.parametrize(
    ("most", "each", "rows"),
    [
        pytest.param(16384, 100, 16384, id="short-ones-fill-it"),
        pytest.param(16384, 1000, 1024, id="longer-ones-a-part"),
        pytest.param(65536, 1000, 4096, id="which-grows-with-the-most"),
        pytest.param(500, 1000, 500, id="which-it-is-at-most"),
    ],
)
def test_longer_lists_have_a_part_of_a_large_batch(most, each, rows):
    queue = make(costs=[costing(0.0, 1e-9)], max_batch_rows=most, max_queue_rows=10**6)
    queue.put(*[a_list(each) for _ in range(400)])
    batch = queue.take(0.0)
    assert batch.rows == rows
    assert queue.batchers[0].most_rows(batch) == rows


def test_short_lists_take_from_the_part_of_longer_ones_and_leave_them_a_part():
    queue = make(costs=[costing(0.0, 1e-9)], max_batch_rows=4096, max_queue_rows=10**6)
    queue.put(a_list(20_000), *[a_list(100) for _ in range(5)])
    assert [stop - start for _, start, stop in queue.take(0.0).pieces] == [100] * 5 + [524]
    queue.put(*[a_list(100) for _ in range(400)])
    *short, long = [stop - start for _, start, stop in queue.take(0.0).pieces]
    assert sum(short) == 4096 - QUANTUM
    assert long == QUANTUM


def test_a_batch_with_its_part_of_longer_lists_is_full():
    """It need not wait for company, and takes its whole time."""
    queue = make(costs=[costing(0.002, 1e-6)], max_batch_rows=16384, max_delay=1.0)
    queue.put(*[a_list(500) for _ in range(3)])
    assert queue.due(0.0) == 0.0
    queue.put(a_list(10))
    batch = queue.take(0.0)
    assert batch.rows == 10 + 1024
    assert queue.batchers[0].most_rows(batch) == batch.rows
    assert queue.batchers[0].fuller_saves(batch, batch.rows) == 0.0


def test_longer_lists_fill_batches_for_which_no_short_one_waits():
    """So it is where an engine works on several batches at once."""
    batcher: Batcher[WaitingList] = Batcher(65536, splits_long=False)
    batch: Batch[WaitingList] = Batch()
    for _ in range(100):
        batcher.add(a_list(1000))
    batcher.fill(batch, 0.0)
    assert batch.rows == 65536


@settings(max_examples=300, deadline=None)
@given(
    room=st.sampled_from([64, 400, 1024, 4096, 16384]),
    waiting=st.lists(st.integers(1, 300) | st.integers(257, 8000), max_size=60),
    rows=st.integers(1, 300) | st.integers(257, 8000),
)
def test_what_is_predicted_to_be_ahead_is_ahead(room, waiting, rows):
    queue = make(costs=[costing(0.0, 1e-9)], max_batch_rows=room, max_queue_rows=10**9)
    queue.put(*map(a_list, waiting))
    new = a_list(rows)
    predicted = round(queue.batchers[0].ahead_of(rows) * 1e9)
    queue.put(new)
    scored = 0
    while new.taken < rows:
        next_batch = queue.batchers[0].next_batch()
        batch = queue.take(0.0)
        assert next_batch == pytest.approx(1e-9 * batch.rows)
        scored += batch.rows
    # What is left of a long list may go ahead of it as a short one.
    assert predicted >= scored - rows - QUANTUM
    if rows > QUANTUM:
        assert predicted == scored - rows


def test_the_room_of_a_longer_list_that_was_dropped_stays_empty():
    """So that no list has two pieces in a batch."""
    queue = make(max_batch_rows=512)
    first, second, long = a_list(200), a_list(250), a_list(1000)
    queue.put(first, second, long)
    long.cancelled = True
    batch = queue.take(0.0)
    assert batch.pieces == [(first, 0, 200), (second, 0, 56)]
    assert batch.dropped == [long]
    assert queue.take(0.0).pieces == [(second, 56, 250)]


def test_what_longer_lists_do_not_need_is_for_short_ones():
    queue = make(costs=[costing(0.0, 1e-9)], max_batch_rows=16384, max_queue_rows=10**6)
    shorts, long = [a_list(100) for _ in range(170)], a_list(300)
    queue.put(*shorts, long)
    pieces = queue.take(0.0).pieces
    assert pieces[-1] == (long, 0, 300)
    assert sum(stop - start for _, start, stop in pieces) == 16384
    assert len({id(each) for each, _, _ in pieces}) == len(pieces)


def test_short_lists_do_not_fill_the_part_of_longer_ones():
    queue = make(costs=[costing(0.002, 1e-9)], max_batch_rows=16384, max_delay=1.0)
    queue.put(*[a_list(100) for _ in range(8)], a_list(300))
    assert queue.due(0.0) == 1.0
    queue.put(a_list(1000))
    assert queue.due(0.0) == 0.0


def test_short_and_longer_lists_that_fit_are_one_batch_ahead():
    queue = make(costs=[costing(1.0, 0.0)], max_batch_rows=1024)
    queue.put(a_list(100), a_list(800))
    [batcher] = queue.batchers
    assert [batcher.ahead_of(rows) for rows in (10, 300)] == [1.0, 1.0]
    assert batcher.next_batch() == 1.0


def test_a_batch_that_its_time_ends_tells_nothing_of_larger_ones():
    queue = make(costs=[costing(2e-4, 2e-5)], max_queue_rows=10**6)
    queue.put(a_list(1000))
    batch = queue.take(0.0)
    assert batch.rows == 100
    assert queue.batchers[0].most_rows(batch) == 400
