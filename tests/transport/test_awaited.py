"""Messages that are not there yet are counted, and who brings too many of them is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from ranker.transport.awaited import Awaited

LONGEST = 100


class Call:
    """A call on a connection."""

    def __init__(self, connection: str) -> None:
        self.awaited = 0
        self.peer = lambda: connection


@pytest.fixture
def guard() -> SimpleNamespace:
    return SimpleNamespace(bytes_left=1000, brings_little="modest".__eq__)


@pytest.fixture
def awaited(guard) -> Awaited:
    return Awaited(guard, LONGEST)


def let_in(awaited: Awaited, connection: str, at_most: int = 100) -> list[Call]:
    """Calls on a connection until one is refused."""
    calls: list[Call] = []
    while len(calls) < at_most and awaited.has_room_for(call := Call(connection)):
        calls.append(call)
    return calls


def test_a_connection_of_which_none_has_come_may_bring_the_longest(awaited):
    assert len(let_in(awaited, "new")) == 5
    assert not awaited.has_room_for(Call("another"))


@pytest.mark.parametrize("end", ["on_message", "on_close"])
def test_what_has_come_or_ended_is_not_awaited(awaited, end):
    first, *_ = let_in(awaited, "a")
    for _ in range(2):  # the second says nothing new
        awaited.on_message(first, LONGEST) if end == "on_message" else awaited.on_close(first)
    assert len(let_in(awaited, "a")) == 1


def test_a_connection_is_expected_to_bring_as_much_as_before(awaited):
    (call,) = let_in(awaited, "a", at_most=1)
    awaited.on_message(call, 10)
    assert len(let_in(awaited, "a")) == 50


def test_who_brings_little_is_let_in(awaited):
    let_in(awaited, "a")
    assert len(let_in(awaited, "modest")) == 100
    assert len(let_in(awaited, "a")) == 0


def test_there_is_room_for_one(awaited, guard):
    guard.bytes_left = 0
    assert len(let_in(awaited, "a")) == 1


def test_nothing_is_counted_while_callers_hold_little(awaited, guard):
    guard.bytes_left = math.inf
    calls = let_in(awaited, "a")
    assert len(calls) == 100
    guard.bytes_left = 1000
    for call in calls:
        awaited.on_close(call)
    assert len(let_in(awaited, "a")) == 5
