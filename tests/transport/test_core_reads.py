"""When streams are read: not so often that nobody else is, and not while memory is short."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ranker.transport.core_reads import MOST_READS, StreamReads


class Stream:
    """Asks again when it may, and counts how often it was read."""

    def __init__(self, reads: StreamReads, connection: str = "greedy") -> None:
        self.connection = connection
        self.reads = 0
        self._of = reads

    def peer(self) -> str:
        return self.connection

    def read_on(self) -> None:
        self.reads += self._of.may_start(self)


@pytest.fixture
def guard() -> SimpleNamespace:
    return SimpleNamespace(short=False, brings_little="modest".__eq__)


@pytest.fixture
def reads(guard) -> StreamReads:
    return StreamReads(guard)


def use_up(reads: StreamReads) -> None:
    for _ in range(MOST_READS):
        assert reads.may_start(Stream(reads))


def test_after_many_messages_the_next_waits_for_an_empty_poll(reads):
    use_up(reads)
    stream = Stream(reads)
    stream.read_on()
    reads.on_turn_end(0.0)
    assert not stream.reads
    reads.on_empty_poll()
    assert not stream.reads  # what was read in this turn is scored first
    reads.on_turn_end(0.0)
    assert stream.reads == 1
    assert not reads.waiting


def test_no_more_than_that_are_read_at_a_time_and_the_first_goes_first(reads):
    use_up(reads)
    streams = [Stream(reads) for _ in range(MOST_READS + 2)]
    for each in streams:
        each.read_on()
    reads.on_empty_poll()
    reads.on_turn_end(0.0)
    assert [each.reads for each in streams] == [1] * MOST_READS + [0, 0]
    reads.on_turn_end(0.0)
    assert not streams[-1].reads
    reads.on_empty_poll()
    reads.on_turn_end(0.0)
    assert streams[-1].reads == 1


def test_where_no_poll_is_ever_empty_it_is_read_after_some_turns(reads):
    use_up(reads)
    stream = Stream(reads)
    stream.read_on()
    for _ in range(20):
        reads.on_turn_end(0.0)
    assert stream.reads == 1


def test_while_memory_is_short_only_who_brings_little_is_read(reads, guard):
    guard.short = True
    greedy, modest = Stream(reads), Stream(reads, "modest")
    greedy.read_on()
    modest.read_on()
    for now in (1.0, 2.0):
        reads.on_turn_end(now)
    assert (greedy.reads, modest.reads) == (0, 1)
    guard.short = False
    reads.on_turn_end(3.0)
    assert greedy.reads == 1


def test_who_brings_little_by_now_is_read_though_memory_is_short(reads, guard):
    guard.short = True
    stream = Stream(reads)
    stream.read_on()
    stream.connection = "modest"
    reads.on_turn_end(1.0)
    assert stream.reads == 1


def test_whether_there_is_room_is_not_asked_in_each_turn(reads, guard):
    guard.short = True
    asked = []
    stream = Stream(reads)
    guard.brings_little = asked.append
    stream.read_on()
    for now in range(100):
        reads.on_turn_end(5.0 + now / 1000)
    assert len(asked) == 2


def test_without_a_guard_memory_is_never_short():
    reads = StreamReads(None)
    assert reads.may_start(Stream(reads))
