"""Lines on their way out, on a thread of their own.

Whoever has them does not wait for whoever reads them.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from threading import Lock, Thread

from ranker.incident import guard

logger = logging.getLogger(__name__)

MOST_WAITING_BYTES = 4 * 2**20
"""Of lines that wait while nobody reads."""

_STEADY_SECONDS = 10.0
"""After so long without a failure the output can be written again. A full disk takes some lines."""


class LineOutput:
    """Writes JSON objects to a descriptor, one a line.

    Args:
        descriptor: where to.
        count: is told how many lines were written, and how many were lost; on any thread.
        write: writes to a descriptor, as `os.write` does.
    """

    def __init__(
        self,
        descriptor: int,
        count: Callable[[int, int], None],
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._descriptor = descriptor
        self._count = count
        self._write_some = write
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._lock = Lock()  # of what waits
        self._torn = False  # the last line that was written lacks its end
        self._failed_at: float | None = None
        self._thread = Thread(target=self._run, name="access-log-lines", daemon=True)
        self._thread.start()

    def put(self, lines: Sequence[Mapping[str, object]]) -> None:
        """Has lines written, or loses them if too much waits."""
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        if self._waiting_bytes + len(text) > MOST_WAITING_BYTES:
            self._count(0, len(lines))
        else:
            self._wait_for(len(text))
            self._waiting.put(text)

    def close(self, seconds: float) -> bool:
        """Writes what waits, and ends. Returns whether that took no longer than so many seconds."""
        self._waiting.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _wait_for(self, change: int) -> None:
        with self._lock:
            self._waiting_bytes += change

    def _run(self) -> None:
        while (text := self._waiting.get()) is not None:
            guard(logger, "writing the access log", self._write, text)
            self._wait_for(-len(text))

    def _write(self, text: bytes) -> None:
        lines = text.count(b"\n")
        whole = b"\n" + text if self._torn else text
        rest = whole
        try:
            while rest:
                rest = rest[self._write_some(self._descriptor, rest) :]
        except OSError as error:
            if self._failed_at is None:
                logger.error("the access log can't be written: %s", error.strerror)
            self._failed_at = time.monotonic()
        if len(rest) < len(whole):
            self._torn = whole[-len(rest) - 1] != ord("\n")
        lost = min(rest.count(b"\n"), lines)
        self._count(lines - lost, lost)
        if self._failed_at is not None and self._failed_at < time.monotonic() - _STEADY_SECONDS:
            self._failed_at = None
            logger.warning("the access log can be written again")
