"""What a worker says of a caller that has a name of its own in the metrics."""

from __future__ import annotations

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates


class CallerRecorder:
    """Records what one worker does for one caller. Made by a `Recorder`.

    Attributes:
        ended: one number for each `Code`: the ranking requests that ended with it.
    """

    def __init__(self, aggregates: Aggregates, worker: int, number: int) -> None:
        layout, self._worker = aggregates.layout, worker
        codes = layout.of_caller(catalogue.CALLER_REQUESTS, number)
        self.ended = aggregates.slots[worker].cells[codes.start : codes.stop]
        [self._requests] = layout.of_caller(catalogue.CALLER_TAKEN, number)
        [self._rows] = layout.of_caller(catalogue.CALLER_CANDIDATES, number)
        self._workers = [slot.cells for slot in aggregates.slots[: layout.workers]]

    def total(self) -> tuple[float, float]:
        """The requests and candidates that the caller has taken of all workers."""
        requests = rows = 0.0
        for cells in self._workers:
            requests += cells[self._requests]
            rows += cells[self._rows]
        return requests, rows

    def add(self, rows: int) -> None:
        """The caller takes a request with so many candidates of this worker."""
        cells = self._workers[self._worker]
        cells[self._requests] += 1.0
        cells[self._rows] += rows
