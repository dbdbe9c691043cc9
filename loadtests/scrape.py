"""The server's own account of a stretch of time, from its `/metrics`."""

from __future__ import annotations

import math
import time
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from ranker.metrics import catalogue as catalog

TIMEOUT = 5.0
"""Seconds."""


class Scrape:
    """What `/metrics` said at one moment.

    Attributes:
        taken: when, on the `time.monotonic` clock.
    """

    def __init__(self, text: str, taken: float) -> None:
        """Reads the text format of Prometheus."""
        self.taken = taken
        self._samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    @classmethod
    def of(cls, url: str) -> Scrape:
        """Asks the server.

        Raises:
            OSError: it can't be reached.
        """
        with urllib.request.urlopen(url, timeout=TIMEOUT) as page:
            return cls(page.read().decode(), time.monotonic())

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels; 0 if there is none."""
        return sum(
            value
            for sample, has, value in self._samples
            if sample == name and labels.items() <= has.items()
        )


@dataclass(frozen=True)
class ServerShare:
    """What the server did between two scrapes.

    Attributes:
        requests: ranking requests that it answered, well or not.
        failures: those with an error.
        engine_utilization: the fraction of the time that an engine was scoring,
            averaged over the workers.
        cpu: CPU time of all workers, in cores.
        batch_rows: the mean number of candidates in a batch; NaN if there was none.
        batch_requests: the mean number of requests in a batch; likewise.
    """

    requests: int
    failures: int
    engine_utilization: float
    cpu: float
    batch_rows: float
    batch_requests: float

    @classmethod
    def between(cls, before: Scrape, after: Scrape) -> ServerShare:
        """The difference of two scrapes of the same server."""

        def grown(name: str, **labels: str) -> float:
            return after.total(name, **labels) - before.total(name, **labels)

        def mean(name: str) -> float:
            count = grown(f"{name}_count")
            return grown(f"{name}_sum") / count if count else math.nan

        seconds = after.taken - before.taken
        requests = grown(catalog.REQUESTS.name)
        workers = max(1.0, after.total(catalog.WORKERS.name))
        return cls(
            requests=round(requests),
            failures=round(requests - grown(catalog.REQUESTS.name, code="OK")),
            engine_utilization=grown(catalog.ENGINE_BUSY.name) / (workers * seconds),
            cpu=grown(catalog.PROCESS_CPU.name) / seconds,
            batch_rows=mean(catalog.BATCH_ROWS.name),
            batch_requests=mean(catalog.BATCH_REQUESTS.name),
        )
