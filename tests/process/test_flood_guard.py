"""Marks that move with models; what callers bring about is in `tests.end_to_end.test_memory`."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from ranker.process import flood_guard as module
from ranker.process.flood_guard import FloodGuard
from ranker.process.memory_budget import MemoryBudget
from ranker.process.memory_held import Held
from ranker.transport.connections import Connection

MIB = 2**20


class Limits:
    """What the guard says of the second mark, and of connections."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.closed: list[str] = []

    def memory_limited(self, limit: int) -> None:
        self.told.append(limit)

    def connection_closed(self, reason: str) -> None:
        self.closed.append(reason)


class Process:
    """A process that holds so many MiB, and its guard. Callers may make it hold 64 MiB more."""

    def __init__(self, monkeypatch) -> None:
        self.own, self.shared = 50, 30
        monkeypatch.setattr(module, "held", self.held)
        self.limits = Limits()
        budget = MemoryBudget.of_worker(100 * MIB, 1, self.held().resident)
        self.guard = FloodGuard(budget, self.limits, max_message_bytes=3 * MIB)
        self.peers: list[str] = []
        self.guard._transport = SimpleNamespace(peers=lambda: self.peers, steps=0)

    def held(self) -> Held:
        return Held((self.own + self.shared) * MIB, self.shared * MIB)

    def look(self, now: float = 1.0) -> bool:
        """Whether memory is short."""
        self.guard._look_at_memory(now)
        return self.guard.short


@pytest.fixture
def process(monkeypatch) -> Process:
    return Process(monkeypatch)


def test_what_callers_bring_is_held_to_the_marks(process):
    process.own += 33
    assert process.look(now=7.0)
    assert process.guard.short_since == 7.0
    process.look(now=8.0)
    assert process.guard.short_since == 7.0
    process.own -= 33
    assert not process.look()
    assert process.guard.short_since == math.inf


def test_how_much_more_may_come_is_told_while_callers_hold_much(process):
    """From three eighths of their memory on, and for some seconds after; the first mark is half."""
    process.own += 23
    process.look(now=1.0)
    assert process.guard.bytes_left == math.inf
    process.own += 2
    process.look(now=1.9)
    assert process.guard.bytes_left == math.inf  # nobody knows yet who brings little
    for now in (1.9, 2.0):
        process.guard._arrivals.look([Connection(("a", 1), 1, 0, 0, -1)], now, 1.0)
    process.look(now=2.0)
    assert process.guard.bytes_left == 7 * MIB
    process.own += 20
    process.look(now=3.0)
    assert process.guard.bytes_left == 0
    process.own -= 40
    process.look(now=4.0)
    assert process.guard.bytes_left == 27 * MIB
    process.look(now=20.0)
    assert process.guard.bytes_left == math.inf


def test_free_memory_goes_back_whenever_an_idle_worker_has_more_of_it(process, monkeypatch):
    """Little work, now and then, leaves it idle; and each time free memory behind."""
    burnt, given_back = [0.0], []
    monkeypatch.setattr(module.time, "process_time", lambda: burnt[0])

    def give_back() -> None:
        given_back.append(process.own)
        process.own = 50

    monkeypatch.setattr(module, "return_free_memory", give_back)
    look = process.guard._look_for_rest
    for own, share in [(60, 0.01), (50, 0.01), (70, 0.01), (80, 0.5), (80, 0.01), (40, 0.01)]:
        process.own = own
        burnt[0] += share * module._IDLE_SECONDS
        look(now=0.0)
    assert given_back == [60, 70, 80]
    process.own = 45
    look(now=0.0)
    assert given_back == [60, 70, 80, 45]


def test_who_sends_what_no_window_bounds_is_closed_where_grpc_reads_unwatched(process, caplog):
    """A sender of messages is told that there is room for more, and gets kilobytes by that; but
    not before it has sent the first message of each call."""
    frames = Connection(("frames", 1), 5 * MIB, 0, 300, -1)
    calls = Connection(("10.0.0.1", 1), 6 * MIB, 0, 300, -1)
    more_than_calls = Connection(("10.0.0.2", 1), 7 * MIB, 0, 300, -1)
    process.peers = ["ipv4:10.0.0.1:1"] * 2 + ["ipv4:10.0.0.2:1", "unix-abstract:office", ""]
    messages = Connection(("messages", 2), 5 * MIB, 0, 2000, -1)
    a_message = Connection(("a-message", 3), 2 * MIB, 0, 300, -1)
    process.guard._close_uncontrolled([messages, a_message, calls], plenty=True)
    assert process.limits.closed == []
    process.guard._close_uncontrolled([frames, more_than_calls], plenty=True)
    assert process.limits.closed == ["unanswered"] * 2
    process.guard._close_uncontrolled([calls], plenty=False)
    assert process.limits.closed == ["unanswered"] * 3
    process.peers += [f"ipv4:10.0.1.{each}:1" for each in range(20)]  # all share what there is
    process.guard._close_uncontrolled([calls], plenty=True)
    assert process.limits.closed == ["unanswered"] * 4
    assert "frames, port 1" in caplog.text


@pytest.mark.parametrize(
    ("mib_beyond", "closed"),
    [
        pytest.param(1, 2, id="at-the-mark"),
        pytest.param(5, 7, id="a-fifth-of-the-way"),
        pytest.param(20, 10, id="near-the-end"),
        pytest.param(24, 11, id="at-the-end"),
    ],
)
def test_the_less_memory_is_left_the_more_connections_are_closed(
    process, caplog, mib_beyond, closed
):
    """Those first that have sent most for what they got; last the one that takes its answers."""
    senders = [Connection((f"sender-{each}", 1), each * MIB, 0, 300, -1) for each in range(1, 11)]
    takes_answers = Connection(("takes-answers", 1), 100 * MIB, 0, 50 * MIB, -1)
    process.own += 40 + mib_beyond
    overfull = process.guard._look_at_memory(1.0)
    process.guard._make_room([takes_answers, *senders], overfull)
    assert process.limits.closed == ["memory"] * closed
    assert "sender-10, port 1" in caplog.text


def test_shared_memory_is_models(process):
    process.shared += 500
    assert not process.look()
    process.own += 33
    assert process.look()


def test_marks_move_with_what_models_take_of_their_own(process):
    process.own += 500
    assert process.look()
    process.guard.models_changed(500 * MIB)
    assert not process.look()
    process.own -= 500
    process.guard.models_changed(0)
    assert not process.look()
    process.own += 33
    assert process.look()
    first, larger, last = process.limits.told
    assert larger == first + 500 * MIB
    assert last == first
