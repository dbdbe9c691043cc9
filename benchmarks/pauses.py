"""How often the machine itself holds a process up: what no server's tail can be better than.

A loop that does nothing but read the clock is held up when something else runs on its core:
the kernel, another process, or on a virtual machine the host, which the guest's own accounts
of its CPU time may not show.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

LONG = 0.001
"""Seconds that make a pause."""


@dataclass(frozen=True)
class Pauses:
    """What one look at a core gave.

    Attributes:
        rate: pauses per second.
        share: of the time that they took.
    """

    rate: float
    share: float

    def __str__(self) -> str:
        return (
            f"{self.rate:.0f} pauses of over a millisecond a second, {self.share:.1%} of the time"
        )


def look(core: int, busy: int, seconds: float) -> Pauses:
    """Watches a core while another one is busy.

    Args:
        core: the one to watch. The calling thread must be free to run there; it is moved
            back in the end.
        busy: the other one, as under a load.
        seconds: how long.
    """
    before = os.sched_getaffinity(0)
    spinning = subprocess.Popen(
        [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{busy}])\nwhile True: pass"]
    )
    try:
        os.sched_setaffinity(0, {core})
        began = last = time.monotonic()
        gaps = []
        while last < began + seconds:
            now = time.monotonic()
            if now - last > LONG:
                gaps.append(now - last)
            last = now
    finally:
        spinning.kill()
        spinning.wait()
        os.sched_setaffinity(0, before)
    return Pauses(len(gaps) / seconds, sum(gaps) / seconds)
