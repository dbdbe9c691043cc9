"""What an evaluation found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
"""Of the JSON; counts up when something in it changes its meaning or goes."""


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, and the interval in which it is likely to be.

    Attributes:
        value: the mean.
        low: the lower end.
        high: the upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MetricResult:
    """One metric of the model, and of the baseline if there is one.

    Attributes:
        metric: its name: `ndcg@10`.
        model: of the model.
        baseline: of the baseline.
        difference: the model's less the baseline's, query by query.
        better: queries on which the model is better than the baseline.
        worse: those on which it is worse.
        equal: those on which they are the same.
    """

    metric: str
    model: Estimate
    baseline: Estimate | None = None
    difference: Estimate | None = None
    better: int = 0
    worse: int = 0
    equal: int = 0


@dataclass(frozen=True)
class SliceResult:
    """The first metric on the queries with one value in a column.

    Attributes:
        column: the column.
        value: the value, or the range of values.
        queries: how many queries have it.
        candidates: how many candidates these have.
        result: the first metric on them.
    """

    column: str
    value: str
    queries: int
    candidates: int
    result: MetricResult


@dataclass(frozen=True)
class Mover:
    """A query on which the model and the baseline differ much.

    Attributes:
        query: what it is called.
        candidates: how many it has.
        model: the first metric of the model.
        baseline: that of the baseline.
        first_relevant: the place of the model's first relevant candidate, from 1
            on; 0 if there is none.
        first_relevant_before: that of the baseline's.
    """

    query: str
    candidates: int
    model: float
    baseline: float
    first_relevant: int
    first_relevant_before: int


@dataclass(frozen=True)
class GateResult:
    """Whether the model passes one gate.

    Attributes:
        gate: as it was written.
        value: what was found.
        limit: what it was compared with.
        passed: whether it holds.
    """

    gate: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True, eq=False)
class Ranker:
    """One of the two models, and what it did.

    Attributes:
        name: the model's name.
        version: the model's version.
        digest: the SHA-256 of its file.
        engine: what it was scored with.
        absent: its features that the data hasn't got; they counted as missing.
        tied: the share of candidates that have their score in common with another
            of the same query and a different label; these stand in the data's order.
        first_relevant: int64 [Q]; the place of the first relevant candidate, from 1
            on; 0 if there is none.
        scores: float32 [n].
        values: float64 [Q] for each metric, by its name.
    """

    name: str
    version: str
    digest: str
    engine: str
    absent: tuple[str, ...]
    tied: float
    first_relevant: NDArray[np.int64]
    scores: NDArray[np.float32]
    values: Mapping[str, NDArray[np.float64]]

    def about(self) -> dict[str, Any]:
        """What JSON says of it."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "engine": self.engine,
            "absent_features": list(self.absent),
            "tied_candidates": self.tied,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome of `ranker.quality.evaluate`.

    Attributes:
        model: the model, with its scores and each query's metrics.
        baseline: the baseline, likewise.
        source: where the data comes from.
        partly_absent: features that some queries lack, or whose values were left out of a log.
        unverified_codes: categorical features of a log whose codes may stand for other categories
            than for the models: not all files say what theirs stand for.
        queries: Q, how many queries there are.
        candidates: n, how many candidates they have in all.
        without_relevant: how many queries have no relevant candidate.
        labels: float32 [n].
        relevant_from: the least label that counts as relevant.
        confidence: of the intervals.
        resamples: samples that they are made of.
        seed: of the draws.
        propensities: whether gains were weighted by inverse propensities.
        metrics: the results, in the order asked for.
        slices: the first metric by slice.
        gained: the queries on which the first metric rose most.
        lost: those on which it fell most.
        gates: the gates.
    """

    model: Ranker
    baseline: Ranker | None
    source: str
    partly_absent: tuple[str, ...]
    unverified_codes: tuple[str, ...]
    queries: int
    candidates: int
    without_relevant: int
    labels: NDArray[np.float32]
    relevant_from: float
    confidence: float
    resamples: int
    seed: int
    propensities: bool
    metrics: tuple[MetricResult, ...]
    slices: tuple[SliceResult, ...]
    gained: tuple[Mover, ...]
    lost: tuple[Mover, ...]
    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether all gates hold; True if there are none."""
        return all(gate.passed for gate in self.gates)

    def __getitem__(self, metric: str) -> MetricResult:
        """The result of a metric, by its name."""
        for result in self.metrics:
            if result.metric == metric:
                return result
        raise KeyError(metric)

    def to_json(self) -> dict[str, Any]:
        """All of it but the arrays, as `json.dumps` takes it; no number in it is NaN."""
        document = {
            "format": FORMAT,
            "passed": self.passed,
            "model": self.model.about(),
            "baseline": self.baseline.about() if self.baseline else None,
            "data": {
                "source": self.source,
                "partly_absent_features": list(self.partly_absent),
                "unverified_codes": list(self.unverified_codes),
                "queries": self.queries,
                "candidates": self.candidates,
                "queries_without_relevant": self.without_relevant,
                "relevant_from": self.relevant_from,
                "propensities": self.propensities,
            },
            "intervals": {
                "confidence": self.confidence,
                "resamples": self.resamples,
                "seed": self.seed,
            },
            "metrics": [asdict(result) for result in self.metrics],
            "slices": [asdict(result) for result in self.slices],
            "gained": [asdict(mover) for mover in self.gained],
            "lost": [asdict(mover) for mover in self.lost],
            "gates": [asdict(gate) for gate in self.gates],
        }
        cleaned: dict[str, Any] = _without_nan(document)
        return cleaned


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
