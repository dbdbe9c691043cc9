"""How often one caller is refused: so many times a second, and the other refusals wait.

Whoever is refused at once asks at once again, and to refuse costs the server something, too.

Pure logic: it reads no clock.
"""

from __future__ import annotations

import math

LONGEST_HELD = 1.0
"""Seconds that a refusal is held back at most."""

BEFORE_DEADLINE = 0.01
"""Seconds before its deadline a call is refused, if not earlier: its caller should hear why."""


class RefusalPace:
    """When one caller's refusals are answered.

    Args:
        per_second: so many are, in the long run.
        at_once: so many are answered without a wait, after a time without any.
    """

    def __init__(self, per_second: float, at_once: float) -> None:
        self._each = 1.0 / per_second
        self._at_once = at_once * self._each
        self._until = -math.inf

    def wait(self, now: float) -> float:
        """Seconds for which the refusal of what comes now is to be held back."""
        begin = max(self._until, now - self._at_once)
        self._until = min(begin + self._each, now + LONGEST_HELD)
        return max(0.0, self._until - now)
