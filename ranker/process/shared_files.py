"""Open files that wait to be sent to several processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self


class SharedFiles:
    """Open files of this process that are closed once nobody here holds them any more.

    Each holder could have copies of its own, but of descriptors a process has few.

    Args:
        fds: their descriptors. Whoever makes this holds them.

    Attributes:
        fds: likewise.
    """

    def __init__(self, fds: Sequence[int]) -> None:
        self.fds = tuple(fds)
        self._holders = 1

    def hold(self) -> Self:
        """One more holds them."""
        self._holders += 1
        return self

    def release(self) -> None:
        """One of those who hold them does so no longer; the last one closes them."""
        self._holders -= 1
        if not self._holders:
            for fd in self.fds:
                os.close(fd)
