"""Refusals that are answered later, so that a caller who floods can't make others wait.

To refuse a call costs nearly as much as to answer it, and whoever is refused at once asks at once
again. HTTP/2 bounds the calls that a connection has in progress: while their refusals are held
back, no more come. And nothing is read of a stream while one of its refusals is.

Pure logic: it reads no clock.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

from ranker.errors import OverloadedError
from ranker.refusal_pace import BEFORE_DEADLINE
from ranker.serving.task import RankTask


class PacedRefusals:
    """Refusals that are held back.

    Args:
        refuse: tells a list's caller.

    Attributes:
        held: those that are, by the time at which they are due.
    """

    def __init__(self, refuse: Callable[[RankTask, OverloadedError], None]) -> None:
        self._refuse = refuse
        self.held: list[tuple[float, int, RankTask, OverloadedError]] = []
        self._number = itertools.count()  # of two that are due at once the first comes first

    def hold(self, task: RankTask, error: OverloadedError, now: float, wait: float) -> bool:
        """Refuses a list after so many seconds, or in time for its deadline, or at once.

        Returns:
            Whether it is held back.
        """
        due = min(now + wait, task.deadline - BEFORE_DEADLINE)
        if due <= now:
            self._refuse(task, error)
            return False
        error.forget_frames()
        heapq.heappush(self.held, (due, next(self._number), task, error))
        return True

    def answer(self, now: float) -> float:
        """Refuses those that are due; returns the seconds until the next one is, or infinity."""
        held = self.held
        while held and held[0][0] <= now:
            _, _, task, error = heapq.heappop(held)
            self._refuse(task, error)
        return held[0][0] - now if held else math.inf
