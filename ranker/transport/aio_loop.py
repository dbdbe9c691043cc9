"""An asyncio loop with a pump, for `ranker.transport.aio`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ranker.incident import guard
from ranker.rpc import Pump
from ranker.transport.status import logger

T = TypeVar("T")


class Loop:
    """Runs coroutines on one thread, and calls the pump when all that was ready has run.

    `on_loop` and `is_loop_thread` may be called from any thread, all else from the loop's.
    """

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._loop = asyncio.new_event_loop()
        self._thread = 0
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs the loop on the calling thread, which becomes the loop's, until that is done."""
        self._thread = threading.get_ident()
        return self._loop.run_until_complete(coroutine)

    def close(self) -> None:
        """Ends the loop for good. It must not run."""
        self._loop.close()

    def on_loop(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop's next turn."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to serve
            self._loop.call_soon_threadsafe(function)

    def is_loop_thread(self) -> bool:
        """Whether the caller runs on the loop's thread."""
        return threading.get_ident() == self._thread

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Starts a task that `settle` waits for."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Waits until all tasks have ended; then the pump is not called again."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._timer is not None:
            self._timer.cancel()

    def pump_soon(self) -> None:
        """Has the pump called once all callbacks that are ready now have run."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._pump_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay = guard(logger, "the pump", self._pump)
        if delay is not None:
            self._timer = self._loop.call_later(delay, self._turn)
