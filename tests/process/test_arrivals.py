"""Who brings little, of what each connection has brought."""

from __future__ import annotations

import pytest

from ranker.process.arrivals import LATE_SECONDS, Arrivals
from ranker.rpc import Peer
from ranker.transport.connections import Connection

LITTLE = 1000.0 / LATE_SECONDS
"""Bytes in a second: connections that brought a thousand of late, together, are modest."""


def peer(name: str) -> Peer:
    return (name, 1)


class Callers:
    """What callers have sent since they came."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.now = 100.0
        self.sent: dict[str, int] = {}

    def look(self, seconds: float = 0.02, **more: int) -> set[str]:
        """Some send so much more, and it is looked who is modest."""
        self.now += seconds
        for name, size in more.items():
            self.sent[name] = self.sent.get(name, 0) + size
        self.arrivals.look(self.found(), self.now, LITTLE)
        return {name for name, _ in self.arrivals.modest}

    def found(self) -> list[Connection]:
        return [Connection(peer(name), size, 0, 0, -1) for name, size in self.sent.items()]


@pytest.fixture
def callers() -> Callers:
    return Callers()


def test_nobody_is_known_to_be_modest_at_first(callers):
    assert callers.look(a=10, b=10**6) == set()


def test_what_was_sent_before_does_not_count(callers):
    callers.look(a=10**9, b=0)
    assert callers.look(a=10, b=2000) == {"a"}


def test_many_who_bring_little_may_bring_little_together(callers):
    callers.look(**dict.fromkeys("abcd", 0))
    assert callers.look(a=400, b=400, c=401, d=401) == {"a", "b"}


def test_a_connection_that_has_come_since_is_known_by_all_that_it_sent(callers):
    callers.look(a=0)
    assert callers.look(b=300, c=5000) == {"a", "b"}


def test_what_was_brought_fades(callers):
    callers.look(a=0)
    assert callers.look(a=2000) == set()
    assert callers.look(seconds=0.5 * LATE_SECONDS) == set()
    assert callers.look(seconds=0.5 * LATE_SECONDS) == {"a"}


def test_what_came_since_the_last_look(callers):
    callers.look(a=500)
    callers.sent["a"] += 70
    callers.sent["b"] = 30
    a, b = callers.found()
    assert (callers.arrivals.since(a), callers.arrivals.since(b)) == (70, None)


def test_another_connection_on_the_same_port_gives_nobody_room(callers):
    callers.look(a=10**6, b=0)
    callers.sent["a"] = 5
    assert callers.look(b=2000) == {"a"}


def test_after_forgetting_nobody_is_known(callers):
    callers.look(a=0)
    assert callers.look() == {"a"}
    callers.arrivals.forget()
    assert not callers.arrivals.modest
    assert callers.look() == set()
