"""What a worker says of a caller that has a name of its own in the metrics."""

from __future__ import annotations

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.caller_tokens import OVERFLOW_CELLS, CallerTokens


class CallerRecorder:
    """Records what one worker does for one caller. Made by a `Recorder`.

    Attributes:
        ended: one number for each `Code`: the ranking requests that ended with it.
        requests: those that it has taken of all workers.
        candidates: likewise.
    """

    def __init__(self, aggregates: Aggregates, worker: int, number: int) -> None:
        layout = aggregates.layout
        codes = layout.of_caller(catalogue.CALLER_REQUESTS, number)
        self.ended = aggregates.slots[worker].cells[codes.start : codes.stop]
        workers = [slot.cells for slot in aggregates.slots[: layout.workers]]
        [requests] = layout.of_caller(catalogue.CALLER_TAKEN, number)
        [candidates] = layout.of_caller(catalogue.CALLER_CANDIDATES, number)
        overflows = layout.plan.overflows[number]
        self.requests = CallerTokens(workers, worker, requests, overflows)
        self.candidates = CallerTokens(workers, worker, candidates, overflows + OVERFLOW_CELLS)
