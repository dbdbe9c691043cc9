"""What a caller has taken of a server, and what it has left, as all of its workers know it."""

from __future__ import annotations

import math
from collections.abc import Sequence

OVERFLOW_CELLS = 2
"""What an overflow takes in a slot: the rate that it is for (0: none), and the overflow itself."""


class CallerTokens:
    """Tokens of one kind, requests or candidates; see `ranker.serving.quotas`.

    Each worker writes its own cells alone, and reads those of all, without a lock.

    Args:
        workers: the cells of each worker's slot.
        worker: which of them is this process's.
        count: where in a slot the tokens are counted that a worker has given.
        overflow: where in a slot the overflow is that a worker has seen.
    """

    def __init__(
        self, workers: Sequence[memoryview[float]], worker: int, count: int, overflow: int
    ) -> None:
        self._workers = workers
        self._own = workers[worker]
        self._count = count
        self._rate = overflow
        self._overflow = overflow + 1

    def read(self, rate: float) -> tuple[float, float]:
        """The tokens taken of all workers, ever, and the most overflow that any has seen.

        Args:
            rate: tokens a second. What was seen at another rate is not meant; -inf: nothing was.
        """
        taken, overflow = 0.0, -math.inf
        for cells in self._workers:
            taken += cells[self._count]
            if cells[self._rate] == rate and cells[self._overflow] > overflow:
                overflow = cells[self._overflow]
        return taken, overflow

    def add(self, tokens: float) -> None:
        """This worker gives so many."""
        self._own[self._count] += tokens

    def note(self, rate: float, overflow: float) -> None:
        """This worker has seen so much overflow, at that rate."""
        own = self._own
        if own[self._rate] != rate:
            own[self._rate] = 0.0  # nobody is to read it with the rate of before
        own[self._overflow] = overflow
        own[self._rate] = rate

    def set_rate(self, rate: float) -> None:
        """Forgets what this worker, or one before it in its place, has seen at another rate."""
        if self._own[self._rate] != rate:
            self._own[self._rate] = 0.0
