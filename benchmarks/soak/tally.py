"""What the soak's callers have seen, and whether the server's own counters agree."""

from __future__ import annotations

import threading
from collections import Counter

from loadtests.scrape import Scrape
from ranker.errors import Code
from ranker.metrics import catalogue as catalog

ABANDONED = "abandoned"
"""In place of a status: the caller cancelled, died or gave the request too little time."""

Counts = Counter[tuple[str, str]]
"""Ranking requests by model and status. A status is one that the server has sent, which
it must have counted too; `ABANDONED` ones it may have counted in any way, or never seen."""


class Tally:
    """Counts and failures of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counts = Counter()
        self._failures: list[str] = []

    def add(self, model: str, status: str, number: int = 1) -> None:
        """Counts requests that ended so."""
        with self._lock:
            self._counts[model, status] += number

    def fail(self, what: str) -> None:
        """Notes something that must not happen."""
        with self._lock:
            self._failures.append(what)

    def take(self) -> tuple[Counts, list[str]]:
        """What has come since the last time."""
        with self._lock:
            counts, failures = self._counts, self._failures
            self._counts, self._failures = Counter(), []
        return counts, failures


def disagreements(counts: Counts, scrape: Scrape) -> list[str]:
    """Where the server's counters, once all callers have left, contradict their counts.

    The requests for the model `steady` must agree exactly. Of all others each that
    was answered must have been counted under its status, and no more in all than were sent.
    What is refused as invalid or unknown is never abandoned, so these agree exactly too.
    """
    found = []

    def expect(what: str, counted: float, least: float, most: float) -> None:
        if not least <= counted <= most:
            bounds = f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
            found.append(f"{what}: the server counted {counted:,.0f}, its callers {bounds}")

    requests = catalog.REQUESTS.name
    sent = sum(number for (model, _), number in counts.items() if model != "steady")
    total = 0.0
    for code in (each.name for each in Code):
        steady = scrape.total(requests, model="steady", code=code)
        expect(f"steady {code}", steady, counts["steady", code], counts["steady", code])
        rest = scrape.total(requests, code=code) - steady
        total += rest
        exact = code in ("INVALID_ARGUMENT", "NOT_FOUND")
        expect(f"rest {code}", rest, counts["rest", code], counts["rest", code] if exact else sent)
    expect("rest, in all", total, sent - counts["rest", ABANDONED], sent)
    for metric in (catalog.RPCS_IN_FLIGHT, catalog.QUEUE_ROWS):
        expect(metric.name, scrape.total(metric.name), 0, 0)
    counted = scrape.total(requests)
    durations = catalog.REQUEST_DURATION.name
    expect(durations, scrape.total(f"{durations}_count"), counted, counted)
    return found
