"""Errors that the loop itself meets: each is logged once in a while, not as often as it comes.

Without a descriptor to spare, asyncio reports each connection that waits, hundreds a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

LOG_SECONDS = 10.0
"""Between two reports of the same error."""

_MOST = 100
"""Errors that are kept apart."""


class LoopErrors:
    """An asyncio exception handler: leaves to the default one what it has not had lately.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Takes what `loop.set_exception_handler` describes."""
        what, now = f"{context['message']}: {context.get('exception')!r}", self._clock()
        if now - self._last.get(what, -LOG_SECONDS) < LOG_SECONDS:
            return
        if len(self._last) == _MOST:
            self._last.clear()
        self._last[what] = now
        loop.default_exception_handler(context)
