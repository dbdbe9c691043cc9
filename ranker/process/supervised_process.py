"""One of the server's processes, which is started again when it ends, and killed if it hangs."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from ranker.metrics.aggregates import Slot
from ranker.process.child import Child, Exit
from ranker.process.hang_check import HangCheck
from ranker.process.heartbeat import LOADING_SILENCE_SECONDS, SILENCE_SECONDS
from ranker.process.restart_pause import RestartPause

logger = logging.getLogger(__name__)


class SupervisedProcess:
    """One of the server's processes, which is started again when it ends.

    Args:
        name: what the log calls it.
        slot: its part of the metrics' file.
        start: starts the process. Raises OSError if the system has none to spare.
        on_message: takes what it says beside how it fares.

    Attributes:
        name: likewise.
        child: the process, if there is one.
        ready: what it said when it began to do its work; None before.
        proven: whether it has ever done its work.
        hung: whether it was killed because it did not move.
    """

    def __init__(
        self,
        name: str,
        slot: Slot,
        start: Callable[[], Child],
        on_message: Callable[[Child, Mapping[str, Any]], None],
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self.ready: Mapping[str, Any] | None = None
        self.proven = self.hung = False
        self._slot = slot
        self._start = start
        self._on_message = on_message
        self._started = self._beat = 0.0
        self._check: HangCheck | None = None
        self._pause = RestartPause()
        self._restart_at = 0.0

    def start(self) -> None:
        """Starts the process. Raises OSError if the system has none to spare; names it."""
        try:
            self.child = self._start()
        except OSError as error:
            reason = f"{self.name} can't be started: {error.strerror}"
            raise OSError(error.errno, reason) from error
        self.ready = None
        self.hung = False
        self._started = time.monotonic()
        logger.info("%s started, pid %d", self.name, self.child.pid)

    def kill_if_hung(self, held_up_until: float) -> None:
        """Kills the process if it no longer moves.

        Args:
            held_up_until: until when nothing on the machine moved, as far as one can see.
        """
        if self.child is None or self.hung:
            return
        beat = max(self._slot.last_beat, self._started)
        if beat != self._beat or self._check is None:
            self._beat, self._check = beat, HangCheck(self.child)
        limit = LOADING_SILENCE_SECONDS if self.ready is None else SILENCE_SECONDS
        if (account := self._check.hangs(limit, held_up_until)) is not None:
            logger.error("%s %s", self.name, account)
            self.hung = True
            self.send_signal(signal.SIGKILL)

    def look(self) -> tuple[str | None, Exit | None]:
        """Why the process can't do its work, if it says so; and how it has ended, if it has."""
        if self.child is None:
            return None, None
        end = self.child.exit()  # first, so that what it said last is heard
        failure = None
        self.child.flush()
        for message in self.child.messages():
            if "failed" in message.facts:
                failure = str(message.facts["failed"])
            elif "ready" in message.facts:
                self.ready = message.facts["ready"]
                self.proven = True
                logger.info("%s serves", self.name)
            else:
                self._on_message(self.child, message.facts)
        if end is not None:
            self.child = None
            self._slot.vacate(end.cpu_seconds)
        return failure, end

    def restart_later(self, end: Exit) -> None:
        """Sets when the next process starts in place of one that has ended."""
        lived = time.monotonic() - self._started
        self._pause.on_end(lived)
        logger.error(
            "%s ended with %s after %.0f s; the next one starts in %.1f s",
            self.name,
            end,
            lived,
            self._set_restart(),
        )

    def restart_if_due(self) -> bool:
        """Starts the next process; if that fails, later: others serve."""
        if self.child is not None or time.monotonic() < self._restart_at:
            return False
        try:
            self.start()
        except OSError as error:
            logger.error("%s; the next attempt is in %.1f s", error.strerror, self._set_restart())
            return False
        return True

    def send_signal(self, number: int) -> None:
        """Sends the process a signal, if there is one."""
        if self.child is not None:
            self.child.send_signal(number)

    def _set_restart(self) -> float:
        """Sets when the next process starts; returns in how many seconds."""
        pause = self._pause.next()
        self._restart_at = time.monotonic() + pause
        return pause
