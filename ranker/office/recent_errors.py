"""What went wrong lately: the last requests that failed, and the last bugs that were met."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from threading import Lock

_KEPT = 30
"""Of each kind."""

_SHOWN = ("time", "code", "model", "version", "candidates", "total_seconds", "request_id", "worker")
"""What is kept of a line of the access log."""


class RecentErrors:
    """The latest errors. May be used from any thread.

    Attributes:
        changes: how often something was added.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._lock = Lock()
        self._requests: deque[dict[str, object]] = deque(maxlen=_KEPT)
        self._incidents: deque[dict[str, object]] = deque(maxlen=_KEPT)

    def add_request(self, line: Mapping[str, object]) -> None:
        """A request that failed, as the access log has it."""
        with self._lock:
            self.changes += 1
            self._requests.appendleft({name: line[name] for name in _SHOWN if name in line})

    def add_incident(self, time: str, incident: str, what: str, process: str) -> None:
        """A bug.

        Args:
            time: when, as the log has it.
            incident: its id in the log.
            what: what failed.
            process: who met it.
        """
        entry: dict[str, object] = {
            "time": time,
            "incident": incident,
            "what": what,
            "process": process,
        }
        with self._lock:
            self.changes += 1
            self._incidents.appendleft(entry)

    def latest(self) -> dict[str, list[dict[str, object]]]:
        """`requests` and `incidents`, the latest first."""
        with self._lock:
            return {"requests": list(self._requests), "incidents": list(self._incidents)}
