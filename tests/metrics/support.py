"""A server's records, and workers that write them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ranker.metrics.aggregates import Aggregates
from ranker.metrics.families import Distribution, Family
from ranker.metrics.layout import Layout, Name
from ranker.metrics.log_entry import ScoredBatch
from ranker.metrics.metric import Metric
from ranker.metrics.model_recorder import ModelRecorder
from ranker.metrics.recorder import Recorder

RANK = "/ranker.v1.RankingService/Rank"
METHODS = (RANK, "/ranker.v1.RankingService/RankStream")
NAMES: tuple[Name, ...] = (("books", "1"), ("films", "2024-05"))


def new_aggregates(names: Sequence[Name] = NAMES, workers: int = 1) -> Aggregates:
    """Records of a server that serves these models."""
    aggregates = Aggregates.create(Layout(len(names), METHODS, workers, ("gcp_monitoring",)))
    for number, name in enumerate(names):
        aggregates.name_model(number, name)
    return aggregates


@dataclass
class Ended:
    """A request that is over."""

    rows: int
    arrived: float
    deadline: float
    ended: float
    traceparent: str | None = None
    request_id: str = ""
    queued: float = 0.0
    scoring: float = 0.0
    batch: ScoredBatch | None = None
    caller: Any = None

    def method(self) -> str:
        return RANK

    def peer(self) -> str:
        return "ipv4:192.0.2.1:4711"

    @property
    def has_deadline(self) -> bool:
        return self.deadline < math.inf


class Worker:
    """A worker that records; -1 is the model that nobody serves."""

    def __init__(self, aggregates: Aggregates, index: int = 0) -> None:
        self.recorder = Recorder(aggregates, index)
        self._names = aggregates.names()

    def model(self, number: int) -> ModelRecorder:
        if number < 0:
            return self.recorder.unknown_model()
        return self.recorder.model(number, self._names[number])

    def rpc_started(self) -> None:
        self.recorder.in_flight[0] += 1

    def rpc_finished(self, method: str, code: int) -> None:
        self.recorder.in_flight[0] -= 1
        self.recorder.ended(method)[code] += 1

    def request_finished(
        self,
        model: int,
        code: int,
        candidates: int,
        slack: float,
        seconds: float,
        traceparent: str | None = None,
    ) -> None:
        request = Ended(candidates, 0.0, slack, seconds, traceparent)
        self.model(model).request_ended(code, request)

    def batch_scored(
        self, model: int, rows: int, requests: int, queued: Sequence[float], seconds: float
    ) -> None:
        self.model(model).batch_scored(rows, requests, queued, seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.recorder, name)

    def model_loaded(self, model: int, seconds: float, info: Mapping[str, str]) -> None:
        self.model(model).loaded(seconds)
        self.model(model).served(info)

    def close(self) -> None:
        self.recorder.close()


def value(families: Sequence[Family], metric: Metric, *labels: str) -> float | Distribution:
    """The one sample of `metric` with these label values."""
    [family] = [family for family in families if family.metric is metric]
    [found] = [sample.value for sample in family.samples if sample.labels == labels]
    return found


def nonzero(families: Sequence[Family]) -> dict[str, dict[tuple[str, ...], float]]:
    """Everything that was counted: histograms by their number of observations."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in families:
        for sample in family.samples:
            number = sample.value.count if isinstance(sample.value, Distribution) else sample.value
            if number:
                found.setdefault(family.metric.name, {})[sample.labels] = number
    return found
