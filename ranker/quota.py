"""What a caller may take of a server, as the operator says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quota:
    """What one caller may take of a server, all of its workers together.

    Attributes:
        requests_per_second: lists, averaged over a second; 0: any number.
        candidates_per_second: candidates in them, likewise.
        queue_share: the part of each worker's queue that its lists may have, from 0 to 1.
    """

    requests_per_second: float = 0.0
    candidates_per_second: float = 0.0
    queue_share: float = 1.0

    def divided(self, parts: int) -> Quota:
        """The quota of one of so many parts that are asked in turn."""
        return Quota(
            self.requests_per_second / parts, self.candidates_per_second / parts, self.queue_share
        )
