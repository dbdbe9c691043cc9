from __future__ import annotations

import logging
import signal

import pytest

from ranker.process import hang_check, supervised_process
from ranker.process.heartbeat import LOADING_SILENCE_SECONDS, SILENCE_SECONDS
from ranker.process.supervised_process import SupervisedProcess
from tests.process.test_hang_check import Clock, FakeChild


class SleepingChild(FakeChild):
    """A process that sleeps."""

    pid = 1

    def __init__(self) -> None:
        super().__init__("S")
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


class FakeSlot:
    def __init__(self, beat: float) -> None:
        self.last_beat = beat


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    for module in (supervised_process, hang_check):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.parametrize("serves", [False, True], ids=["loads", "serves"])
def test_a_process_that_hangs_is_killed_once(clock, caplog, serves):
    child, slot = SleepingChild(), FakeSlot(clock.now)
    its = SupervisedProcess("worker 0", slot, lambda: child, lambda *_: None)
    its.start()
    its.ready = {} if serves else None
    its.kill_if_hung(0.0)
    limit = SILENCE_SECONDS if serves else LOADING_SILENCE_SECONDS
    while not child.signals:
        assert clock.now < 1000
        clock.now += 0.1
        its.kill_if_hung(0.0)
    assert clock.now - slot.last_beat == pytest.approx(limit, abs=0.2)
    assert its.hung
    clock.now += 60.0
    its.kill_if_hung(0.0)
    assert child.signals == [signal.SIGKILL]
    [message] = [each.message for each in caplog.records if each.levelno == logging.ERROR]
    assert message.startswith(f"worker 0 has not moved for {limit:.0f}.")
    assert message.endswith(" s for one, and slept in futex_do_wait")


def test_a_beat_begins_anew(clock):
    child = SleepingChild()
    slot = FakeSlot(clock.now)
    its = SupervisedProcess("worker 0", slot, lambda: child, lambda *_: None)
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
