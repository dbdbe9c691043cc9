"""Whether a process hangs that has not said for long that it moves."""

from __future__ import annotations

import time

from ranker.process.child import Child
from ranker.process.heartbeat import BLOCKED_SILENCE_SECONDS

_WORDS = {
    "R": "was running",
    "S": "slept",
    "D": "was blocked",
    "T": "was stopped",
    "t": "was stopped by a debugger",
}
"""What a process does, by the kernel's letter for the state of its main thread."""


class HangCheck:
    """Whether a process hangs, by the time since it last said that it moves.

    Make a new one each time that it says so.

    One that hangs is replaced. One that waits for a core, or for a disk, is not: whoever took its
    place would wait for the same, and would have to start besides. So:

    - What its main thread waited for a core does not count. The kernel adds a wait once it is
      over, so one that goes on is missing there.
    - While one of its threads runs or could (R), it hangs only if it has *used* a core for as long
      as it may be silent. Whatever computes for ever does so; what gets no core does not, however
      long it waits. All threads count: the main one may sleep until another one, that gets no
      core, lets go of a lock.
    - While one of its threads is blocked in the kernel (D), by a disk most of all, it may be silent
      for longer.
    - Otherwise it is stopped, or sleeps, and hangs. Threads that work now and then change nothing
      in that, as they all sleep at one of the next looks.

    Where the system tells nothing of a process, it hangs when it has been silent for long.

    Args:
        child: the process.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._began = time.monotonic()
        self._used = child.seconds_used()
        self._waited = child.seconds_without_core()

    def hangs(self, limit: float, held_up_until: float) -> str | None:
        """Whether the process hangs.

        Args:
            limit: seconds that it may be silent.
            held_up_until: until when nothing on the machine moved, as far as one can see.

        Returns:
            If so, what the log is to say: for how long it has not moved, and what it did.
        """
        child = self._child
        silent = time.monotonic() - max(self._began, held_up_until)
        if silent <= limit:  # almost always; the rest costs more
            return None
        waited = child.seconds_without_core() - self._waited
        used = child.seconds_used() - self._used
        states = child.states()
        may = max(limit, BLOCKED_SILENCE_SECONDS) if "D" in states else limit
        if silent - waited <= may or ("R" in states and used < limit):
            return None
        return f"has not moved for {silent:.1f} s; killing it" + self._account(states, used, waited)

    def _account(self, states: str, used: float, waited: float) -> str:
        """What the process did, in words; nothing if the system does not tell."""
        if not states:
            return ""
        what = _WORDS.get(states[0], f"was in the state {states[0]}")
        where = self._child.sleeps_in() if states[0] in "SD" else ""
        return (
            f": it used {used:.1f} s of a core since, waited {waited:.1f} s for one, and {what}"
            + (f" in {where}" if where else "")
        )
