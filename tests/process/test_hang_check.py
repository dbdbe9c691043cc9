"""Which processes hang, and which only wait."""

from __future__ import annotations

import pytest

from ranker.process import hang_check
from ranker.process.hang_check import HangCheck
from ranker.process.heartbeat import BLOCKED_SILENCE_SECONDS

LIMIT = 5.0
LOOK = 0.125


class FakeChild:
    """A process of which the kernel says the same at each look.

    Args:
        states: of its threads.
        used: the share of the time in which it has a core.
        waits: the share of the time in which it waits for one, as far as the kernel has added it.
        where: what its main thread sleeps in.
    """

    def __init__(
        self, states: str, used: float = 0.0, waits: float = 0.0, where: str = "futex_do_wait"
    ) -> None:
        self.said = states
        self.shares = used, waits
        self.where = where
        self.used = 7.0  # seconds, before the silence began
        self.waited = 3.0

    def go_on(self, seconds: float) -> None:
        self.used += self.shares[0] * seconds
        self.waited += self.shares[1] * seconds

    def states(self) -> str:
        return self.said

    def seconds_used(self) -> float:
        return self.used

    def seconds_without_core(self) -> float:
        return self.waited

    def sleeps_in(self) -> str:
        return self.where


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(hang_check, "time", clock)
    return clock


def watched(child: FakeChild, clock: Clock, seconds: float = 300.0) -> tuple[float, str | None]:
    """After how long it was found to hang, if it was, and what was said of it."""
    began, its = clock.now, HangCheck(child)
    while clock.now - began < seconds:
        clock.now += LOOK
        child.go_on(LOOK)
        if (account := its.hangs(LIMIT, 0.0)) is not None:
            return clock.now - began, account
    return seconds, None


@pytest.mark.parametrize(
    ("child", "seconds", "did"),
    [
        pytest.param(
            FakeChild("TT"), LIMIT,
            ": it used 0.0 s of a core since, waited 0.0 s for one, and was stopped",
            id="is-stopped",
        ),
        pytest.param(
            FakeChild("SS"), LIMIT,
            ": it used 0.0 s of a core since, waited 0.0 s for one, and slept in futex_do_wait",
            id="waits-for-a-lock",
        ),
        pytest.param(
            FakeChild("SS", where=""), LIMIT,
            ": it used 0.0 s of a core since, waited 0.0 s for one, and slept",
            id="sleeps-and-it-is-not-known-where",
        ),
        pytest.param(
            FakeChild("RS", used=1.0), LIMIT,
            ": it used 5.1 s of a core since, waited 0.0 s for one, and was running",
            id="computes-for-ever",
        ),
        pytest.param(
            FakeChild("RS", used=0.5, waits=0.5), 2 * LIMIT,
            ": it used 5.1 s of a core since, waited 5.1 s for one, and was running",
            id="computes-for-ever-and-has-half-a-core",
        ),
        pytest.param(
            FakeChild("SR", used=1.0), LIMIT,
            ": it used 5.1 s of a core since, waited 0.0 s for one, and slept in futex_do_wait",
            id="another-thread-computes-for-ever",
        ),
        pytest.param(
            FakeChild("DS", where="folio_wait_bit"), BLOCKED_SILENCE_SECONDS,
            ": it used 0.0 s of a core since, waited 0.0 s for one, "
            "and was blocked in folio_wait_bit",
            id="a-disk-never-answers",
        ),
        pytest.param(
            FakeChild("IS"), LIMIT,
            ": it used 0.0 s of a core since, waited 0.0 s for one, and was in the state I",
            id="a-state-without-a-word",
        ),
        pytest.param(FakeChild(""), LIMIT, "", id="the-system-does-not-tell"),
    ],
)  # fmt: skip
def test_a_process_that_hangs(clock, child, seconds, did):
    after, account = watched(child, clock)
    assert after == pytest.approx(seconds, abs=3 * LOOK)
    assert account == f"has not moved for {after:.1f} s; killing it{did}"


@pytest.mark.parametrize(
    "child",
    [
        pytest.param(FakeChild("RS", used=0.001), id="one-wait-that-goes-on"),
        pytest.param(FakeChild("RS", used=0.001, waits=0.5), id="also-waits-that-are-over"),
        pytest.param(FakeChild("SR", used=0.001), id="of-the-thread-that-it-waits-for"),
        pytest.param(FakeChild("SS", waits=1.0), id="sleeps-just-now"),
    ],
)
def test_a_process_that_has_no_core_does_not_hang(clock, child):
    assert watched(child, clock) == (300.0, None)


def test_a_process_that_waits_for_a_disk_has_more_time(clock):
    child = FakeChild("DS")
    assert watched(child, clock, BLOCKED_SILENCE_SECONDS - 1) == (BLOCKED_SILENCE_SECONDS - 1, None)


def test_threads_that_work_now_and_then_do_not_save_one_that_hangs(clock):
    child = FakeChild("SR", used=0.01)
    its = HangCheck(child)
    clock.now += LIMIT + LOOK
    assert its.hangs(LIMIT, 0.0) is None
    child.said = "SS"
    assert its.hangs(LIMIT, 0.0)


def test_time_in_which_nothing_on_the_machine_moved_does_not_count(clock):
    its = HangCheck(FakeChild("SS"))
    clock.now += 60.0
    held_up_until = clock.now
    clock.now += LIMIT - LOOK
    assert its.hangs(LIMIT, held_up_until) is None
    clock.now += 2 * LOOK
    assert its.hangs(LIMIT, held_up_until)
