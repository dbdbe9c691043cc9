"""An asyncio loop with the server's own turn, for `ranker.transport.aio`."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ranker.incident import guard
from ranker.rpc import Numbers, Turn
from ranker.transport.trailers import logger

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Counts how long the loop waits."""

    def __init__(self, waited: Numbers) -> None:
        super().__init__()
        self._waited = waited

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = super().select(timeout)
        self._waited[0] += time.monotonic() - began
        return ready


class Loop:
    """Runs coroutines on one thread, and does the turn when all that was ready has run.

    `answers_on_their_way` counts the RPCs that are ended, and not sent yet.
    `on_loop` may be called from any thread, all else from the loop's.
    """

    def __init__(self, turn: Turn, waited: Numbers) -> None:
        self.answers_on_their_way = 0
        self._turn = turn
        self._loop = asyncio.SelectorEventLoop(_Selector(waited))
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
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
        """Has the turn done once all callbacks that are ready now have run."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._do_turn)

    def _do_turn(self) -> None:
        self._turn_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay = guard(logger, "a turn", self._turn)
        if delay is not None:
            self._timer = self._loop.call_later(delay, self._do_turn)
