"""What is sent in one turn leaves together, to callers who have several calls in progress."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ranker.transport import connections
from ranker.transport.cork import MOST_CALLS, SMALL_BYTES, Cork
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


class Pair:
    """A connection to a port of this process, from both ends."""

    def __init__(self, listener: socket.socket) -> None:
        self.caller = socket.create_connection(listener.getsockname())
        self.served, _ = listener.accept()
        self.served.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = self.caller.getsockname()
        self.name = f"ipv4:{host}:{port}"

    def peer(self) -> str:
        return self.name

    def answer(self) -> None:
        self.served.sendall(b"x")

    def answered(self, seconds: float = PATIENCE) -> bool:
        """Whether an answer has come by then."""
        self.caller.settimeout(seconds)
        try:
            return self.caller.recv(1) == b"x"
        except TimeoutError:
            return False


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Three of them."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pairs = [Pair(listener) for _ in range(3)]
        for pair in pairs:
            stack.enter_context(pair.caller)
            stack.enter_context(pair.served)
        yield pairs


@pytest.fixture
def cork(pairs, monkeypatch) -> Cork:
    monkeypatch.setattr(connections, "_MANY_DESCRIPTORS", 10**6)  # other tests leave some open
    cork = Cork()
    cork.port = pairs[0].served.getsockname()[1]
    return cork


def test_what_is_sent_leaves_at_the_end(cork, pairs):
    busy, other, _ = pairs
    assert cork.hold(1.0, [busy] * 4)
    busy.answer()
    other.answer()
    assert other.answered()
    assert not busy.answered(0.02)
    cork.release(10, 1)
    assert busy.answered()
    busy.answer()
    assert busy.answered()


@pytest.mark.parametrize(
    ("calls", "holds"), [(3, False), (4, True), (MOST_CALLS, True), (MOST_CALLS + 1, False)]
)
def test_it_is_for_several_calls_but_not_for_too_many(cork, pairs, calls, holds):
    assert cork.hold(1.0, pairs[:1] * calls) == holds
    cork.release(10, 1)


def test_it_is_for_several_calls_on_each_connection(cork, pairs):
    assert not cork.hold(1.0, pairs * 3)
    assert cork.hold(3.0, pairs * 4)
    cork.release(10, 1)
    assert not cork.hold(3.1, pairs * 3)


def test_who_calls_is_looked_at_once_a_second(cork, pairs):
    first, second, _ = pairs
    assert cork.hold(1.0, [first] * 4)
    cork.release(10, 1)
    assert cork.hold(1.5, [second] * 4)
    second.answer()
    assert second.answered()
    cork.release(10, 1)
    assert cork.hold(2.0, [first, second] * 4)
    second.answer()
    assert not second.answered(0.02)
    cork.release(10, 1)
    assert second.answered()


@pytest.mark.parametrize(("sent", "holds"), [(2 * SMALL_BYTES, True), (3 * SMALL_BYTES, False)])
def test_long_answers_are_not_held_for_the_next_second(cork, pairs, sent, holds):
    calls = pairs[:1] * 4
    assert cork.hold(1.0, calls)
    cork.release(sent, 2)
    assert cork.hold(1.5, calls) == holds
    cork.release(10, 1)
    assert cork.hold(2.0, calls)
    cork.release(10, 1)


def test_a_connection_that_has_ended_does_no_harm(cork, pairs):
    first, second, _ = pairs
    assert cork.hold(1.0, [first, second] * 4)
    first.served.close()
    second.answer()
    cork.release(10, 1)
    assert second.answered()
    assert cork.hold(1.5, [first, second] * 4)
    cork.release(10, 1)


def test_a_process_with_very_many_descriptors_is_left_alone(cork, pairs, monkeypatch):
    monkeypatch.setattr(connections, "_MANY_DESCRIPTORS", 0)
    assert not cork.hold(1.0, pairs[:1] * 4)
    monkeypatch.setattr(connections, "_MANY_DESCRIPTORS", 10**6)
    assert cork.hold(2.0, pairs[:1] * 4)
    cork.release(10, 1)


def test_callers_that_are_no_addresses_are_left_alone(cork):
    class Office:
        def peer(self) -> str:
            return "unix-abstract:office"

    assert not cork.hold(1.0, [Office()] * 10)
