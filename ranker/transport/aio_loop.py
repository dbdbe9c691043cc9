"""An asyncio loop with the server's own turn, for `ranker.transport.aio`.

The turn comes when asyncio is about to wait, or when there has been something to run for long: so
what came meanwhile is scored together.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ranker.incident import guard
from ranker.rpc import Numbers, Turn
from ranker.transport.trailers import logger

T = TypeVar("T")

_MOST_ROUNDS = 16
"""Rounds of callbacks after which the turn comes though there is more to run."""


class _Selector(selectors.DefaultSelector):
    """Asyncio asks it what is ready, and has it wait if no callback is left to run.

    Attributes:
        turn_due: whether a turn is to come as soon as there is nothing else to do.
    """

    def __init__(self, turn: Turn, waited: Numbers) -> None:
        super().__init__()
        self.turn_due = False
        self._turn = turn
        self._turn_at = math.inf
        self._rounds = 0
        self._waited = waited

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready, within so many seconds; None: wait for as long as it takes."""
        now = time.monotonic()
        left = self._turn_at - now
        if self.turn_due or left <= 0.0:
            ready = super().select(0.0)
            self._rounds += 1
            if (ready or timeout == 0.0) and self._rounds < _MOST_ROUNDS:
                return ready
            self._do_turn()
            return ready  # what the turn has woken is to run before anything is waited for
        if timeout == 0.0:
            return super().select(0.0)
        if left < math.inf and (timeout is None or left < timeout):
            timeout = left
        ready = super().select(timeout)
        self._waited[0] += time.monotonic() - now
        return ready

    def _do_turn(self) -> None:
        self.turn_due = False
        self._rounds = 0
        delay = guard(logger, "a turn", self._turn)
        self._turn_at = math.inf if delay is None else time.monotonic() + delay


class Signal:
    """Wakes the one coroutine that waits for it."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None

    def wait(self) -> asyncio.Future[None]:
        """To be awaited: until the next `set`."""
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def set(self) -> None:
        """Wakes who waits; nobody needs to."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Loop:
    """Runs coroutines on one thread, and does the turn when all that was ready has run.

    `answers_on_their_way` counts the RPCs that are ended, and not sent yet.
    `on_loop` may be called from any thread, all else from the loop's.
    """

    def __init__(self, turn: Turn, waited: Numbers) -> None:
        self.answers_on_their_way = 0
        self._selector = _Selector(turn, waited)
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs the loop on the calling thread, which becomes the loop's, until that is done."""
        return self._loop.run_until_complete(coroutine)

    def on_loop(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's next turn."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to serve
            self._loop.call_soon_threadsafe(function)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Starts a task, and keeps it alive until it is done."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def turn_soon(self) -> None:
        """Has the turn done once all that is ready now has run."""
        self._selector.turn_due = True
