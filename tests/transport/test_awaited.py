"""Messages that are not there yet are counted, and who brings too many of them is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from ranker.transport.awaited import Awaited

LONGEST = 100


class Call:
    """A call on a connection."""

    def __init__(self, connection: str = "a", moved: float = 1.0) -> None:
        self.awaited, self.moved = 0, moved
        self.peer = lambda: connection


@pytest.fixture
def guard() -> SimpleNamespace:
    return SimpleNamespace(bytes_left=1000, brings_little="modest".__eq__)


@pytest.fixture
def awaited(guard) -> Awaited:
    return Awaited(guard, LONGEST)


def let_in(awaited: Awaited, connection: str = "a", at_most: int = 100) -> list[Call]:
    """Calls on a connection until one is refused."""
    calls: list[Call] = []
    while len(calls) < at_most and awaited.has_room_for(call := Call(connection)):
        calls.append(call)
    return calls


def test_where_no_message_has_come_each_may_be_the_longest(awaited):
    assert len(let_in(awaited)) == 5
    assert not awaited.has_room_for(Call("another"))


def test_one_that_has_ended_is_not_awaited(awaited):
    first, *_ = let_in(awaited)
    awaited.on_end(first)
    awaited.on_end(first)  # says nothing new
    assert len(let_in(awaited)) == 1


def test_what_has_come_is_counted_until_the_guard_has_seen_it(awaited, guard):
    first, *_ = let_in(awaited)
    awaited.on_message(first, LONGEST)
    assert let_in(awaited) == []
    guard.bytes_left = 1001
    assert len(let_in(awaited)) == 1


def test_a_message_may_be_as_long_as_the_longest_of_late(awaited, guard):
    for moved, length in ((1.0, 10), (1.5, 1), (2.5, 1)):
        awaited.on_message(Call(moved=moved), length)
    guard.bytes_left = 999  # the guard has seen them
    assert len(let_in(awaited)) == 999 // 20


def test_what_was_long_before_is_forgotten(awaited, guard):
    for moved, length in ((1.0, 10), (2.5, 1), (3.6, 1)):
        awaited.on_message(Call(moved=moved), length)
    guard.bytes_left = 999
    assert len(let_in(awaited, at_most=500)) == 999 // 2


def test_who_brings_little_is_let_in(awaited):
    let_in(awaited)
    assert len(let_in(awaited, "modest")) == 100
    assert let_in(awaited) == []


def test_there_is_room_for_one(awaited, guard):
    guard.bytes_left = 0
    assert len(let_in(awaited)) == 1


def test_nothing_is_counted_while_callers_hold_little(awaited, guard):
    guard.bytes_left = math.inf
    calls = let_in(awaited)
    assert len(calls) == 100
    guard.bytes_left = 1000
    for call in calls:
        awaited.on_end(call)
    assert len(let_in(awaited)) == 5
