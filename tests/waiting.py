"""Waiting for what must happen, however slow or busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE = 60.0
"""Seconds until a test gives up: far more than a slow and busy machine takes."""


def wait_until(
    condition: Callable[[], Found],
    what: str | Callable[[], object] = "",
    seconds: float = PATIENCE,
) -> Found:
    """Waits until a condition holds; returns what it gave then.

    It looks often at first and then ever less: many a condition asks a server for its metrics.

    Args:
        condition: what has to be true.
        what: what is waited for, in words, or a function that says it once waiting was in vain.
        seconds: until it fails; the condition is asked once more after that.
    """
    limit, pause = time.monotonic() + seconds, 0.005
    while True:
        is_last = time.monotonic() > limit
        if found := condition():
            return found
        if is_last:
            said = what() if callable(what) else what
            raise AssertionError(f"waited {seconds:g} s in vain" + (f" for {said}" if said else ""))
        time.sleep(pause)
        pause = min(1.5 * pause, 0.1)
