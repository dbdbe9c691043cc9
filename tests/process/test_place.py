from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ranker.process import place
from ranker.process.child import Child
from ranker.process.heartbeat import LOADING_SILENCE_SECONDS, SILENCE_SECONDS
from ranker.process.place import Place
from tests.waiting import wait_until


class FakeChild:
    """A process that has work to do and gets a core now and then."""

    pid = 1

    def __init__(self) -> None:
        self.waited = 3.0
        self.signals: list[int] = []

    def seconds_without_core(self) -> float:
        return self.waited

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


class FakeSlot:
    def __init__(self, beat: float) -> None:
        self.last_beat = beat


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("serves", [False, True], ids=["loads", "serves"])
@pytest.mark.parametrize("share", [0.0, 0.8], ids=["has-a-core", "waits-for-one"])
def test_only_the_time_that_a_process_had_a_core_counts(monkeypatch, serves, share):
    clock, child = Clock(), FakeChild()
    monkeypatch.setattr(place, "time", clock)
    slot = FakeSlot(clock.now)
    its = Place("worker 0", slot, lambda: child, lambda *_: None)
    its.start()
    its.ready = {} if serves else None
    its.kill_if_hung(0.0)
    limit = SILENCE_SECONDS if serves else LOADING_SILENCE_SECONDS
    while not child.signals:
        assert clock.now < 1000
        clock.now += 0.1
        child.waited += 0.1 * share
        its.kill_if_hung(0.0)
    assert clock.now - slot.last_beat == pytest.approx(limit / (1 - share), abs=0.5)
    assert its.hung


def test_a_beat_begins_anew(monkeypatch):
    clock, child = Clock(), FakeChild()
    monkeypatch.setattr(place, "time", clock)
    slot = FakeSlot(clock.now)
    its = Place("worker 0", slot, lambda: child, lambda *_: None)
    its.start()
    its.ready = {}
    for _ in range(10):
        clock.now += SILENCE_SECONDS - 1
        child.waited += 100.0  # long ago, by the next beat
        slot.last_beat = clock.now
        its.kill_if_hung(0.0)
    assert not child.signals
    clock.now += SILENCE_SECONDS + 0.1
    its.kill_if_hung(0.0)
    assert child.signals


def test_the_system_tells_how_long_a_process_waited_for_a_core():
    [core, *_] = os.sched_getaffinity(0)
    spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    spinning = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
    try:
        child = Child.__new__(Child)
        child.pid = spinning[0].pid
        wait_until(lambda: child.seconds_without_core() > 0.2)
    finally:
        for each in spinning:
            each.kill()
            each.wait()
    assert child.seconds_without_core() == 0.0
