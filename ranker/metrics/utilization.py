"""The share of the time that workers and engines were busy: what an autoscaler looks at.

A worker is as busy as its loop or its engine is, whichever is more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.families import Family, Sample

_WINDOW_SECONDS = 10

_PerWorker = tuple[float, ...]


class Utilization:
    """How busy a server's workers and engines were over the last ten seconds.

    Args:
        aggregates: what the workers have counted.
    """

    def __init__(self, aggregates: Aggregates) -> None:
        self._workers = aggregates.slots[: aggregates.layout.workers]
        [self._busy] = aggregates.layout.plan.cells[catalogue.ENGINE_BUSY]
        [self._alive] = aggregates.layout.plan.cells[catalogue.WORKERS]
        [self._worked] = aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
        [self._load] = aggregates.layout.plan.cells[catalogue.ENGINE_LOAD]
        self._seen: deque[tuple[float, _PerWorker, _PerWorker, _PerWorker]]
        self._seen = deque(maxlen=_WINDOW_SECONDS)
        self.tick()

    def tick(self) -> None:
        """Looks at the counters; to be called once a second."""
        places = self._busy, self._load, self._worked
        busy, engines, loops = (self._of(place) for place in places)
        self._seen.append((time.monotonic(), busy, engines, loops))

    def read(self) -> Iterator[Family]:
        """The two ratios, each the mean over the workers that live."""
        then, *before = self._seen[0]
        seconds = (time.monotonic() - then) * max(sum(self._of(self._alive)), 1.0)
        busy, engines, loops = (
            [max(0.0, new - old) for new, old in zip(self._of(place), olds, strict=True)]
            for place, olds in zip((self._busy, self._load, self._worked), before, strict=True)
        )
        workers = map(max, engines, loops)
        for metric, total in (
            (catalogue.ENGINE_UTILIZATION, sum(busy)),
            (catalogue.WORKER_UTILIZATION, sum(workers)),
        ):
            yield Family(metric, (Sample((), total / seconds if seconds > 0 else 0.0),))

    def _of(self, place: int) -> _PerWorker:
        return tuple(worker.cells[place] for worker in self._workers)
