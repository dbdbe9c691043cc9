"""What this process holds of memory."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Held(NamedTuple):
    """Bytes of memory; 0 where that can't be known.

    Attributes:
        resident: all of it.
        shared: of that, pages of files, also of files in memory, as models are handed on in.
    """

    resident: int
    shared: int

    @property
    def own(self) -> int:
        """What no other process has too."""
        return self.resident - self.shared


def held() -> Held:
    """What this process holds now; see proc_pid_statm(5)."""
    file = _statm()
    if file is None:
        return Held(0, 0)
    _, resident, shared, *_ = os.pread(file, 100, 0).split()
    return Held(int(resident) * _PAGE, int(shared) * _PAGE)


@functools.cache
def _statm() -> int | None:
    """The file that says so, which stays open: later, a flood may leave no descriptor for it."""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
