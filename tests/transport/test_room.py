"""Room is made among calls: refused, or ended, and in which order."""

from __future__ import annotations

from types import SimpleNamespace

from ranker.errors import Code, RankerError
from ranker.rpc import Limits
from ranker.transport.room import STILL_SECONDS, Room

NOW = 1000.0
LONG_AGO = NOW - 2 * STILL_SECONDS


class Standing:
    """A call that its caller has left standing."""

    def __init__(self, **facts) -> None:
        self.moved, self.heard, self.unsent = LONG_AGO, True, 0
        self.still, self.awaiting, self.connection = True, False, "a"
        self.unread = LONG_AGO
        self.error: RankerError | None = None
        vars(self).update(facts)

    def peer(self) -> str:
        return self.connection

    def stands_still(self) -> bool:
        return self.still

    def unread_since(self) -> float:
        return self.unread

    def awaits_message(self) -> bool:
        return self.awaiting

    def evict(self, error: RankerError) -> None:
        self.error = error


class Evicted(list):
    """Counts."""

    def rpc_evicted(self, reason: str) -> None:
        self.append(reason)


def make(standing: list[Standing], *, short: bool = False, **limits) -> tuple[Room, Evicted]:
    counts = Evicted()
    guard = SimpleNamespace(short=short, brings_little="modest".__eq__)
    return Room(Limits(**limits), guard, counts, standing), counts


def test_where_there_is_room_nothing_happens():
    calls = [Standing()]
    room, counts = make(calls, calls=2)
    room.look(NOW, 1, 0)
    assert room.refusal is None
    assert not counts


def test_too_many_calls_end_those_that_stand_still():
    moving, busy = Standing(moved=NOW), Standing(still=False)
    calls = [Standing(), moving, busy]
    room, counts = make(calls, calls=3)
    room.look(NOW, 3, 0)
    assert [each.error is not None for each in calls] == [True, False, False]
    assert calls[0].error.code is Code.RESOURCE_EXHAUSTED
    assert counts == ["calls"]


def test_those_without_a_message_go_first():
    calls = [Standing(moved=LONG_AGO - each) for each in range(64)]
    silent = Standing(heard=False)
    room, _ = make([*calls, silent], calls=65)
    room.look(NOW, 65, 0)
    assert silent.error is not None
    assert sum(each.error is None for each in calls) == 1
    assert calls[0].error is None  # that which has moved last


def test_a_connection_with_no_more_than_its_share_is_let_in():
    calls = [Standing(moved=NOW) for _ in range(9)]
    room, _ = make(calls, calls=8)
    room.look(NOW, 9, 0)
    modest, greedy = Standing(connection="b"), Standing()
    calls.append(modest)
    assert room.refusal_of(modest) is None
    calls.append(greedy)
    assert room.refusal_of(greedy).reason == "calls"


def test_short_of_memory_those_who_bring_little_are_let_in():
    room, counts = make([Standing()], short=True)
    room.look(NOW, 1, 0)
    assert room.refusal_of(Standing(connection="b")).reason == "memory"
    assert room.refusal_of(Standing(connection="modest")) is None
    assert counts == ["memory"]


def test_who_brings_little_has_no_more_calls_than_its_share_either():
    calls = [Standing(moved=NOW, connection="modest") for _ in range(9)]
    room, _ = make([*calls, Standing(moved=NOW)], short=True, calls=8)
    room.look(NOW, 10, 0)
    assert room.refusal_of(Standing(connection="modest")).reason == "calls"


def test_unread_answers_end_the_longest_unread():
    calls = [Standing(unsent=60, unread=LONG_AGO + each / 10) for each in range(3)]
    room, counts = make(calls, unsent_bytes=100)
    room.look(NOW, 3, 180)
    assert [each.error is not None for each in calls] == [True, True, False]
    assert counts == ["unsent", "unsent"]


def test_who_reads_some_of_the_answers_now_and_then_has_not_read_them():
    slow = Standing(unsent=60, moved=NOW)
    quick = Standing(unsent=60, moved=LONG_AGO, unread=NOW - STILL_SECONDS / 2)
    room, counts = make([slow, quick], unsent_bytes=50)
    room.look(NOW, 2, 120)
    assert slow.error is not None
    assert quick.error is None
    assert counts == ["unsent"]


def test_a_message_that_does_not_come_in_time():
    calls = [Standing(awaiting=True), Standing(awaiting=True, moved=NOW - 40), Standing()]
    room, counts = make(calls, message_seconds=30.0)
    room.look(NOW, 3, 0)
    assert [each.error and each.error.code for each in calls] == [
        None,
        Code.DEADLINE_EXCEEDED,
        None,
    ]
    assert counts == ["message"]
