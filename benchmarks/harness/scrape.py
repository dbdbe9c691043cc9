"""The server's own account of a stretch of time, from its `/metrics`."""

from __future__ import annotations

import re
import time
import urllib.request
from collections import Counter
from typing import NamedTuple

from ranker.errors import Code
from ranker.metrics import catalogue

TIMEOUT = 60.0
"""Seconds."""


class Scrape:
    """What `/metrics` said, in the text format of Prometheus, at a moment of `time.monotonic`."""

    def __init__(self, text: str, taken: float) -> None:
        self.text, self.taken = text, taken

    @classmethod
    def of(cls, url: str) -> Scrape:
        """Asks the server. Raises OSError if it can't be reached."""
        with urllib.request.urlopen(url, timeout=TIMEOUT) as page:
            return cls(page.read().decode(), time.monotonic())

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels; 0 if there is none."""
        total = 0.0
        for has, value in re.findall(rf"(?m)^{name}(?:\{{(.*)\}})? (\S+)$", self.text):
            if labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', has)).items():
                total += float(value)
        return total

    def grown(self, before: Scrape, name: str) -> float:
        """By how much more that total is than it was before."""
        return self.total(name) - before.total(name)

    def codes(self) -> Counter[str]:
        """How many ranking requests have ended with which gRPC status so far."""
        name = catalogue.REQUESTS.name
        return +Counter({code: int(self.total(name, code=code)) for code in Code.__members__})


class ServerShare(NamedTuple):
    """What a server's workers did between two scrapes.

    `engine_utilization` is the part of the time that an engine scored, `cpu` is in cores.
    """

    requests: int
    failures: int
    engine_utilization: float
    cpu: float
    batch_requests: float

    @classmethod
    def between(cls, before: Scrape, after: Scrape) -> ServerShare:
        """The difference."""
        codes, seconds = after.codes() - before.codes(), after.taken - before.taken
        requests = catalogue.BATCH_REQUESTS.name
        batches = max(1.0, after.grown(before, f"{requests}_count"))
        workers = max(1.0, after.total(catalogue.WORKERS.name))
        return cls(
            codes.total(),
            codes.total() - codes["OK"],
            after.grown(before, catalogue.ENGINE_BUSY.name) / (workers * seconds),
            after.grown(before, catalogue.PROCESS_CPU.name) / seconds,
            after.grown(before, f"{requests}_sum") / batches,
        )
