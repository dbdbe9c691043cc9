"""How the supervisor sees that a process still moves: a time in the metrics' file.

A process writes the time at least once each `BEAT_SECONDS`, from the thread that does its work.
One that is stopped, that waits for memory or for a lock that never comes free does not, and
is replaced: the kernel would go on to give it connections that nobody answers. One that waits for
a core or a disk is not, or not as soon (`ranker.process.hang_check`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

BEAT_SECONDS = 1.0
"""A process that has nothing to do says so this often."""

SILENCE_SECONDS = 5.0
"""A process that has said nothing for so long is taken for one that hangs."""

LOADING_SILENCE_SECONDS = 8.0
"""Likewise, before it does its work: to read a large model may hold the interpreter that long."""

BLOCKED_SILENCE_SECONDS = 20.0
"""Likewise, where the kernel itself waits, for a disk or for memory."""

LOADING_SECONDS = 300.0
"""A process that loads for longer is taken for one that hangs."""


@contextmanager
def beating_while_loading(beat: Callable[[float], None]) -> Iterator[None]:
    """Beats from a thread, since what loads has no loop yet that could.

    Args:
        beat: takes the time, on the `time.monotonic` clock.
    """
    loaded = Event()
    limit = time.monotonic() + LOADING_SECONDS

    def run() -> None:
        while not loaded.wait(BEAT_SECONDS / 2) and (now := time.monotonic()) < limit:
            beat(now)

    beat(time.monotonic())
    thread = Thread(target=run, name="loading-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loaded.set()
        thread.join()
