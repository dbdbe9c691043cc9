"""How long a process that has ended is away before the next one starts in its place."""

from __future__ import annotations

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 4.0
"""Seconds before the next start; doubled each time. A start takes a core about half a second: one
that fails again and again takes an eighth of it, and is not out for long once it can succeed."""

STEADY_SECONDS = 10.0
"""A process that lived this long was fine: the next one starts without a long pause."""


class RestartPause:
    """The pause before the next start."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE

    def on_end(self, lived: float) -> None:
        """A process has ended that lived for so many seconds."""
        if lived >= STEADY_SECONDS:
            self._seconds = FIRST_PAUSE

    def next(self) -> float:
        """The seconds to wait now; the next time twice as many, up to the longest pause."""
        seconds = self._seconds
        self._seconds = min(2 * seconds, LONGEST_PAUSE)
        return seconds
