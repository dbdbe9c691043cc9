"""When streams are read: not so often that nobody else is, and not while memory is short."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ranker.transport.core_reads import MOST_READS, StreamReads


class Stream:
    """Counts how often it was read after it had waited."""

    def __init__(self, connection: str = "greedy") -> None:
        self.connection = connection
        self.reads = 0

    def peer(self) -> str:
        return self.connection

    def read_now(self) -> None:
        self.reads += 1


@pytest.fixture
def guard() -> SimpleNamespace:
    return SimpleNamespace(short=False, brings_little="modest".__eq__)


@pytest.fixture
def reads(guard) -> StreamReads:
    return StreamReads(guard)


def use_up(reads: StreamReads) -> None:
    assert all(reads.may_start(Stream()) for _ in range(MOST_READS))


def test_after_many_messages_the_next_waits_for_an_empty_poll(reads):
    use_up(reads)
    stream = Stream()
    assert not reads.may_start(stream)
    reads.on_turn_end()
    assert not stream.reads
    reads.on_empty_poll()
    assert not stream.reads  # what was read in this turn is scored first
    reads.on_turn_end()
    assert stream.reads == 1
    assert not reads.waiting


def test_no_more_than_that_are_read_at_a_time_and_the_first_goes_first(reads):
    use_up(reads)
    streams = [Stream() for _ in range(MOST_READS + 2)]
    assert not any(map(reads.may_start, streams))
    reads.on_empty_poll()
    reads.on_turn_end()
    assert [each.reads for each in streams] == [1] * MOST_READS + [0, 0]
    reads.on_turn_end()
    assert not streams[-1].reads
    reads.on_empty_poll()
    reads.on_turn_end()
    assert streams[-1].reads == 1


def test_where_no_poll_is_ever_empty_it_is_read_after_some_turns(reads):
    use_up(reads)
    stream = Stream()
    reads.may_start(stream)
    for _ in range(20):
        reads.on_turn_end()
    assert stream.reads == 1


def test_while_memory_is_short_only_who_brings_little_is_read(reads, guard):
    guard.short = True
    greedy = Stream()
    assert not reads.may_start(greedy)
    assert reads.may_start(Stream("modest"))
    reads.on_empty_poll()
    reads.on_turn_end()
    assert not greedy.reads
    guard.short = False
    reads.on_turn_end()
    assert greedy.reads == 1


def test_without_a_guard_memory_is_never_short():
    assert StreamReads(None).may_start(Stream())
