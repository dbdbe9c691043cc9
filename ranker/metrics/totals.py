"""What all workers have counted of one model since the server started."""

from __future__ import annotations

from typing import NamedTuple

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.metric import Metric


class Total(NamedTuple):
    """How often something happened, and the seconds that it took in all."""

    times: int
    seconds: float


class ModelTotals(NamedTuple):
    """A model's totals.

    Attributes:
        answered: requests that got a ranking, from arrival to answer.
        failed: requests that did not.
        queued: the waits for a first batch.
        batches: the engine's work.
    """

    answered: Total
    failed: Total
    queued: Total
    batches: Total


def model_totals(aggregates: Aggregates, number: int) -> ModelTotals:
    """Adds up all workers.

    Args:
        aggregates: what was counted.
        number: which of the layout's models it is.
    """
    answered, failed = _of(aggregates, catalogue.REQUEST_DURATION, number)
    [queued] = _of(aggregates, catalogue.QUEUE_DURATION, number)
    [batches] = _of(aggregates, catalogue.SCORING_DURATION, number)
    return ModelTotals(answered, failed, queued, batches)


def _of(aggregates: Aggregates, metric: Metric, number: int) -> list[Total]:
    """Each of a model's histograms of one metric."""
    places = aggregates.layout.plan.cells[metric]
    per_model = len(places) // (aggregates.layout.models + 1)
    size = len(metric.buckets) + 1
    found = []
    for begin in places[number * per_model : (number + 1) * per_model]:
        counts = (sum(slot.cells[begin : begin + size]) for slot in aggregates.slots)
        seconds = (slot.cells[begin + size] for slot in aggregates.slots)
        found.append(Total(int(sum(counts)), sum(seconds)))
    return found
