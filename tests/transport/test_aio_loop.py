"""When the server's own turn comes on asyncio: as it waits, and after some rounds at the latest."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine

import pytest

from ranker.transport.aio_loop import Loop, Signal
from tests.waiting import PATIENCE


def run(
    scenario: Callable[[Loop, list[float]], Coroutine[None, None, None]],
    delay: float | None = None,
) -> tuple[list[float], list[float]]:
    """Runs a scenario, which gets the loop and when its turns were.

    Args:
        scenario: what runs on the loop.
        delay: what a turn returns.

    Returns:
        When turns were, and how long the loop has waited.
    """
    turns, waited = list[float](), [0.0]

    def turn() -> float | None:
        turns.append(time.monotonic())
        return delay

    loop = Loop(turn, waited)
    loop.run(asyncio.wait_for(scenario(loop, turns), PATIENCE))
    return turns, waited


async def nothing_for(rounds: int) -> None:
    """Something to run, round after round."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def test_it_comes_once_all_that_was_ready_has_run():
    async def scenario(loop: Loop, turns: list[float]) -> None:
        loop.turn_soon()
        await nothing_for(5)
        loop.turn_soon()
        assert not turns
        await asyncio.sleep(0.01)
        assert len(turns) == 1

    run(scenario)


def test_it_comes_though_there_is_always_something_to_run():
    async def scenario(loop: Loop, turns: list[float]) -> None:
        loop.turn_soon()
        await nothing_for(20)
        assert len(turns) == 1
        loop.turn_soon()
        await nothing_for(20)
        assert len(turns) == 2

    run(scenario)


def test_it_comes_again_after_the_delay_that_it_names():
    async def scenario(loop: Loop, turns: list[float]) -> None:
        loop.turn_soon()
        await asyncio.sleep(0.1)
        assert len(turns) >= 2

    turns, _ = run(scenario, delay=0.02)
    assert turns[1] - turns[0] > 0.015


@pytest.mark.parametrize("delay", [None, math.inf, 3600.0])
def test_others_are_not_waited_for_meanwhile(delay: float | None):
    async def scenario(loop: Loop, turns: list[float]) -> None:
        loop.turn_soon()
        await asyncio.sleep(0.01)
        assert len(turns) == 1
        threading.Timer(0.02, loop.on_loop, [loop.turn_soon]).start()
        while len(turns) < 2:
            await asyncio.sleep(0.01)

    _, waited = run(scenario, delay)
    assert waited[0] > 0.02


def test_what_a_turn_wakes_runs_before_anything_is_waited_for():
    signal = Signal()

    async def scenario(loop: Loop, _: list[float]) -> None:
        loop.turn_soon()
        await signal.wait()

    waited = [0.0]
    loop = Loop(signal.set, waited)
    loop.run(asyncio.wait_for(scenario(loop, []), PATIENCE))
    assert waited == [0.0]


def test_a_turn_that_fails_is_logged_and_the_next_one_comes(caplog):
    failures = [ValueError("once")]

    def turn() -> None:
        if failures:
            raise failures.pop()
        done.set()

    async def scenario() -> None:
        loop.turn_soon()
        await asyncio.sleep(0.01)
        loop.turn_soon()
        await done.wait()

    loop, done = Loop(turn, [0.0]), Signal()
    loop.run(asyncio.wait_for(scenario(), PATIENCE))
    assert "a turn failed" in caplog.text


def test_a_signal_that_nobody_waits_for_wakes_nobody():
    async def scenario() -> None:
        signal = Signal()
        signal.set()
        waiting = asyncio.ensure_future(signal.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        signal.set()
        signal.set()
        await waiting
        signal.wait().cancel()  # as with its task
        signal.set()

    asyncio.run(scenario())
