"""How a worker sees its callers off before it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import Enum

SERVING_SECONDS = 1.5
"""How long a draining server still serves: callers and proxies that watch its health leave."""

REFUSING_SECONDS = 2.0
"""How long it then refuses, with UNAVAILABLE: callers that retry leave."""

QUIET_SECONDS = 0.3
"""After so long without a request nobody seems to be left, and neither need last any longer."""

LOOK_SECONDS = 0.02
"""Seconds between two looks at what is left to do."""


class Phase(Enum):
    """What a draining server does."""

    SERVING = "serving, though its health says otherwise"
    REFUSING = "refusing"
    FINISHING = "finishing what it has"


class Drain:
    """Sees callers off: first by health alone, then by refusals, then by the closed door.

    It begins when it is made. Call `step` now and then, on the loop's thread.

    Args:
        timeout: seconds that all of it may take.
        serving: seconds that it still serves.
        refuse: has the server refuse whatever is new.
        last_asked: when somebody last wanted something, on the `time.monotonic` clock.
        idle: whether nothing waits and nothing is being scored.
        undelivered: whether there are answers that have not reached their callers.
    """

    def __init__(
        self,
        timeout: float,
        serving: float,
        *,
        refuse: Callable[[], None],
        last_asked: Callable[[], float],
        idle: Callable[[], bool],
        undelivered: Callable[[], bool],
    ) -> None:
        now = time.monotonic()
        self._phase = Phase.SERVING
        self._end = now + timeout
        self._phase_end = min(self._end, now + serving)
        self._quiet_since = now
        self._refuse = refuse
        self._last_asked = last_asked
        self._idle = idle
        self._undelivered = undelivered

    def step(self) -> float:
        """Goes on to the next phase if it is time.

        Returns:
            Seconds until the next step; `inf` if there is nothing left to wait for.
        """
        now = time.monotonic()
        idle = self._idle()
        self._quiet_since = max(self._quiet_since, self._last_asked(), 0.0 if idle else now)
        nobody_left = now >= self._quiet_since + QUIET_SECONDS
        if self._phase is Phase.SERVING and (nobody_left or now >= self._phase_end):
            self._phase = Phase.REFUSING
            self._phase_end = min(self._end, now + REFUSING_SECONDS)
            self._quiet_since = now
            self._refuse()
        elif self._phase is Phase.REFUSING and (nobody_left or now >= self._phase_end):
            self._phase = Phase.FINISHING
        if self._phase is not Phase.FINISHING:
            return LOOK_SECONDS
        done = now >= self._end or (idle and not self._undelivered())
        return math.inf if done else LOOK_SECONDS
