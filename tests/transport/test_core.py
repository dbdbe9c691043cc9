"""Turns of the loop, with a queue of our own in place of the core's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest

from ranker.rpc import Method
from ranker.transport import core_api as grpcio

pytestmark = pytest.mark.skipif(grpcio.unavailable() is not None, reason="needs grpcio's core")

EMPTY = None
"""A poll that has nothing to report."""


def turns(
    polls: Iterable[str | None], act: Callable[[object, str], None], taking: float = 0.0
) -> list[list[str]]:
    """Which completions each turn takes, when polls find these one after another.

    There is always something to score in the next turn.

    Args:
        polls: what they find.
        act: what a completion does.
        taking: seconds that the server's own turn takes, by a clock that stands still otherwise.
    """
    from ranker.transport.core import CoreTransport

    taken: list[list[str]] = [[]]
    left = iter(polls)
    now = 0.0

    def poll(_: float) -> SimpleNamespace:
        try:
            name = next(left)
        except StopIteration:
            transport._left = True
            return SimpleNamespace(tag=None)
        if name is EMPTY:
            return SimpleNamespace(tag=None)
        return SimpleNamespace(tag=lambda _: (taken[-1].append(name), act(transport, name)))

    def turn() -> float:
        nonlocal now
        now += taking
        taken.append([])
        return 0.0

    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    transport = CoreTransport({}, turn, counts, max_message_bytes=1000)
    transport._turn_at = 0.0
    transport._asking = True  # there is no server to ask
    transport._queue = SimpleNamespace(poll=poll)
    clock = SimpleNamespace(monotonic=lambda: now, time=lambda: now)
    with patch("ranker.transport.core.time", clock):
        transport._serve()
    return [turn for turn in taken if turn]


def nothing(transport: object, name: str) -> None:
    """A completion that leaves the turn as it is."""


@pytest.mark.parametrize(
    ("polls", "expected"),
    [
        pytest.param(["a", "b", EMPTY, EMPTY, "c"], [["a", "b"], ["c"]], id="till-two-are-empty"),
        pytest.param(["a", EMPTY, "b", EMPTY, EMPTY], [["a", "b"]], id="one-empty-says-little"),
        pytest.param([EMPTY, "a", EMPTY, EMPTY], [["a"]], id="nor-does-the-first"),
        pytest.param(
            ["a", EMPTY, EMPTY, "b", EMPTY, EMPTY, "c"], [["a"], ["b"], ["c"]], id="turn-by-turn"
        ),
        pytest.param(
            [str(i) for i in range(300)],
            [[str(i) for i in range(256)], [str(i) for i in range(256, 300)]],
            id="a-flood-is-cut-and-none-lost",
        ),
    ],
)
def test_turn_takes_what_is_ready(polls, expected):
    assert turns(polls, nothing) == expected


def test_a_turn_after_a_long_one_polls_more_often():
    polls = ["a", *[EMPTY] * 2, "b", *[EMPTY] * 6, "c"]
    assert turns(polls, nothing) == [["a"], ["b"], ["c"]]
    assert turns(polls, nothing, taking=0.005) == [["a"], ["b", "c"]]


def test_refusals_end_a_turn():
    def refuse(transport, _):
        transport._loop.refusals += 1

    found = turns([str(i) for i in range(150)], refuse)
    assert [len(turn) for turn in found] == [64, 64, 22]
    assert [name for turn in found for name in turn] == [str(i) for i in range(150)]


def test_a_stream_that_has_brought_much_waits_until_others_have_been_read():
    """gRPC has the next of its messages at once, so that a poll would always find one."""

    def read(transport, name):
        stream = SimpleNamespace(peer=str, read_on=lambda: found.append("the stream, later"))
        at_once = name == "stream" and transport._loop.reads.may_start(stream)
        found.append(f"{name}{', and the next' if at_once else ''}")

    found: list[str] = []
    turns([*["stream"] * 257, "other", EMPTY, EMPTY, "other"], read)
    assert found[255:] == [
        "stream, and the next",
        "stream",
        "other",
        "the stream, later",
        "other",
    ]


class Core:
    """A call as the core knows it, whose operations end when the test says so."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, ...]] = []
        self.tags: list[Callable[[Any], None]] = []

    def start_server_batch(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> int:
        self.started.append(operations)
        self.tags.append(tag)
        return 0

    def peer(self) -> bytes:
        return b"ipv4:10.0.0.1:1"

    def reads(self) -> int:
        """How many messages have been asked for."""
        kinds = [type(each) for operations in self.started for each in operations]
        return kinds.count(grpcio.ReceiveMessage)


def stream(guard: object = None) -> Any:
    """A stream, of which the first message is being read."""
    from ranker.transport.core_call import Route, StreamCall
    from ranker.transport.core_loop import Loop

    method = Method(Mock(), request_streaming=True, response_streaming=True)
    call = StreamCall(Loop([0.0], guard), Route("", method, [0.0] * 17), Core(), (), math.inf)
    call._core.start_server_batch((grpcio.ReceiveMessage(0),), call.received)
    return call


def test_a_call_that_is_not_read_is_followed_by_a_turn():
    """Its refusal is held back, and the turn says until when."""
    from ranker.transport.core import CoreTransport

    handler = Mock(opened=Mock(return_value=False))
    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    transport = CoreTransport(
        {"/toy/Hold": Method(handler)}, lambda: None, counts, max_message_bytes=1000
    )
    transport._request_call = lambda: None  # there is no server to ask
    details = SimpleNamespace(method=b"/toy/Hold", deadline=math.inf)
    core = Core()
    transport._accept(
        SimpleNamespace(success=True, call=core, call_details=details, invocation_metadata=())
    )
    assert transport._loop.heard
    assert not core.started


def message(call: Any) -> None:
    """One has come."""
    operation = SimpleNamespace(message=lambda: b"message")
    call.received(SimpleNamespace(batch_operations=[operation]))


def test_a_stream_whose_caller_waits_for_answers_does_not_stand_still():
    call = stream()
    assert call.stands_still()  # nothing has come of it, or nothing more
    call.unanswered = True
    assert not call.stands_still()
    call.send(b"an answer that is not read")
    assert call.stands_still()


def test_a_stream_is_not_read_on_while_memory_is_short():
    guard = SimpleNamespace(short=True, brings_little=lambda _: False)
    call = stream(guard)
    message(call)
    assert call._core.reads() == 1
    call._loop.reads.on_turn_end(1.0)
    assert call._core.reads() == 1
    assert call.stands_still()  # so that it makes room, should that last
    guard.short = False
    call._loop.reads.on_turn_end(2.0)
    assert call._core.reads() == 2
    call._loop.reads.on_turn_end(3.0)
    assert call._core.reads() == 2


def test_a_stream_that_is_over_is_not_read_on():
    guard = SimpleNamespace(short=True, brings_little=lambda _: False)
    ended, gone = stream(guard), stream(guard)
    for call in (ended, gone):
        message(call)
    ended.finish()
    gone._over(SimpleNamespace(batch_operations=[SimpleNamespace(cancelled=lambda: True)]))
    guard.short = False
    for call in (ended, gone):
        call._loop.reads.on_turn_end(1.0)
        assert call._core is None or call._core.reads() == 1
        assert not call._loop.reads.waiting


def test_of_unread_answers_the_first_counts():
    """One that reads on is never without unread ones, but these are not old."""
    call = stream()
    for now in (1.0, 2.0, 3.0):
        call._loop.now = now
        call.send(b"answer")
    found = []
    for now in (4.0, 5.0, 6.0):
        call._loop.now = now
        found.append((call.unread_since(), call.unsent > 0))
        call._core.tags[-1](None)  # it has left
    assert found == [(1.0, True), (2.0, True), (3.0, True)]
    assert not call.unsent
    call._loop.now = 7.0
    call.finish(b"the last one")
    assert call.unread_since() == 7.0


def test_whether_a_caller_has_gone_is_asked_for_once_its_call_has_waited():
    found, calls = [], {}

    def comes(transport, name):
        found.append([each for each, call in calls.items() if call.watch.called])
        answered = name == "answered"
        call = calls[name] = Mock(watched=answered, arrived=transport._loop.now)
        transport._loop.unwatched.append(call)

    names = ["first", "answered", "second", "third", "fourth", "fifth"]
    turns([poll for name in names for poll in (name, *[EMPTY] * 6)], comes, taking=0.004)
    assert found == [[], [], [], [], ["first"], ["first"]]


def test_it_looks_again_soon_for_a_caller_that_may_go():
    from ranker.transport.core import CoreTransport

    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    transport = CoreTransport({}, lambda: None, counts, max_message_bytes=1000)
    with patch("ranker.transport.core.time", SimpleNamespace(monotonic=lambda: 0, time=lambda: 0)):
        assert transport._poll_until() == 0.1
        transport._loop.unwatched.append(Mock(watched=False, arrived=0.0))
        assert transport._poll_until() == 0.01


def waits(happens: Callable[[Any], None], polls: Iterable[bool]) -> list[bool]:
    """Of each poll, whether it waits until there is something; at last there is nothing.

    Args:
        happens: what a completion does, given the transport.
        polls: whether they find a completion, one after another.
    """
    from ranker.transport.core import CoreTransport

    left, waited = iter(polls), list[bool]()

    def poll(until: float) -> SimpleNamespace:
        waited.append(until > 0)
        found = next(left, None)
        transport._left = found is None
        return SimpleNamespace(tag=(lambda _: happens(transport)) if found else None)

    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    transport = CoreTransport({}, lambda: None, counts, max_message_bytes=1000)
    transport._asking = True
    transport._request_call = lambda: None  # there is no server to ask
    transport._queue = SimpleNamespace(poll=poll)
    transport._serve()
    return waited


def comes(transport: Any) -> None:
    """An RPC whose message is not there yet."""
    transport._loop.calls[Mock(moved=math.inf)] = None


def is_heard(transport: Any) -> None:
    """A message."""
    comes(transport)
    transport._loop.heard = True


def ends(transport: Any) -> None:
    """The only RPC."""
    transport._loop.calls.clear()


def is_closed(transport: Any) -> None:
    """A connection, and the next call is not asked for yet."""
    ends(transport)
    transport._asking = False


@pytest.mark.parametrize(
    ("happens", "polls", "expected"),
    [
        pytest.param(is_heard, [1, 0, 0], [1, 0, 0], id="what-was-heard-is-dealt-with-first"),
        pytest.param(comes, [1, 0], [1, 0, 1], id="a-message-is-not-there-yet"),
        pytest.param(ends, [1], [1, 1], id="the-last-rpc-has-ended"),
        pytest.param(comes, [0, 0], [1, 1, 1], id="nothing"),
        pytest.param(is_closed, [1, 0, 0], [1, 0, 0, 1], id="the-next-call-is-asked-for-first"),
    ],
)
def test_it_waits_at_once_where_there_is_nothing_to_do(happens, polls, expected):
    found = waits(happens, map(bool, polls))
    assert found[: len(expected)] == [bool(each) for each in expected]
