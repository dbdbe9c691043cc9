"""The threads on which engines do what would keep the loop for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class EngineThreads:
    """Runs functions on threads of its own, first come, first served.

    All threads start at once, and not when there is something to do: a server that can't
    have them should say so when it starts.

    Args:
        count: how many.
        name: what they are called.

    Raises:
        RuntimeError: the system doesn't start so many.
    """

    def __init__(self, count: int, name: str = "engine") -> None:
        self.count = count
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, function: Callable[[], None]) -> None:
        """Runs a function on the next thread that is free. It must not raise."""
        self._jobs.put(function)

    def close(self) -> None:
        """Ends the threads once they have done what they were given."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (function := self._jobs.get()) is not None:
            function()
            del function  # it may hold a batch, and the next one may be long in coming
