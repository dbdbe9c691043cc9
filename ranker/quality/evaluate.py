"""Is the new ranker better? Scores both on the engine that serves, and compares by query."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.model import Model
from ranker.quality.bootstrap import Progress
from ranker.quality.codes import Codes
from ranker.quality.data import RankingData
from ranker.quality.evaluation import (
    Evaluation,
    GateResult,
    MetricResult,
    Mover,
    Ranker,
    SliceResult,
)
from ranker.quality.gate import Gate
from ranker.quality.labelled_log import read_labelled_log
from ranker.quality.means import results
from ranker.quality.metrics import Judgements, Metric, Order
from ranker.quality.outcomes import Outcomes
from ranker.quality.readers import Columns, read_data
from ranker.quality.slices import sliced
from ranker.ranking_log.reader import is_log

ModelOrPath = Model | str | PathLike[str]

_ROWS_AT_ONCE = 1 << 13
"""Candidates that are scored at once: enough for the engine's threads, little in memory."""

_SCORING = 0.7
"""The share of the whole that scoring and sorting are taken to be."""


def evaluate(
    model: ModelOrPath,
    data: RankingData | str | PathLike[str],
    *,
    baseline: ModelOrPath | None = None,
    outcomes: str | PathLike[str] | None = None,
    metrics: Sequence[str] = ("ndcg@10",),
    gates: Sequence[str] = (),
    columns: Columns | None = None,
    first_index: int = 0,
    relevant_from: float = 1.0,
    min_propensity: float = 0.0,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    movers: int = 10,
    progress: Progress = lambda _: None,
) -> Evaluation:
    """Measures a ranker on labelled queries, alone or against a baseline.

    Args:
        model: the model, or the path of its ONNX file.
        data: the queries, or the path of a file of them; see `read_data`. Or the address of
            a ranking log, with outcomes.
        baseline: what to compare with; None: nothing.
        outcomes: a CSV file of what readers did with the lists of the log; see
            `ranker.quality.outcomes.Outcomes`.
        metrics: names such as `ndcg@10`; see `ranker.quality.metrics`. Slices and
            movers are about the first one.
        gates: what must hold; see `Gate`. Their metrics are measured in any case.
        columns: what the columns of a table are called, or those of the outcomes; for a
            path only.
        first_index: see `read_data`; for a path only.
        relevant_from: the least label that counts as relevant, for metrics that
            know only relevant and not.
        min_propensity: smaller propensities count as this one.
        resamples: how many bootstrap samples the intervals are made of.
        confidence: of the intervals, as a share: 0.95.
        seed: of the draws; the same one gives the same intervals.
        movers: how many of the queries that changed most to keep, each way.
        progress: is told the share that is done, from 0 to 1.

    Raises:
        InvalidRequestError: the data, a metric, a gate or a setting is not as it
            should be; says which and why.
        RankerError: a model can't be loaded, or a ranking log can't be read.
        OSError: the data can't be read at all.
    """
    if not 0 < confidence < 1:
        raise InvalidRequestError(
            "confidence", f"expected a share between 0 and 1, got {confidence}"
        )
    if resamples < 1:
        raise InvalidRequestError("resamples", f"expected 1 or more, got {resamples}")
    if math.isnan(relevant_from):
        raise InvalidRequestError("relevant_from", "expected a number, got NaN")
    parsed_gates = [Gate.parse(text) for text in gates]
    asked = [Metric.parse(text) for text in metrics]
    wanted = list(dict.fromkeys([*asked, *(gate.metric for gate in parsed_gates)]))
    if not wanted:
        raise InvalidRequestError("metrics", "expected one or more, got none")
    if baseline is None:
        for gate in parsed_gates:
            gate.limit(0.0 if not gate.relative else None)

    models = [_loaded(model)] + ([] if baseline is None else [_loaded(baseline)])
    if not isinstance(data, RankingData):
        data = _read(data, outcomes, models, columns or Columns(), first_index)
    data = data.clipped(min_propensity)
    weights = None if data.propensities is None else 1 / data.propensities
    judgements = Judgements(data.labels, data.sizes, relevant_from, weights)
    rankers = [
        _measured(each, data, judgements, wanted, _part(progress, i, len(models)))
        for i, each in enumerate(models)
    ]
    compared = _Comparison(data, rankers, resamples, confidence, seed)
    measured = compared.metrics([str(metric) for metric in wanted], progress)
    first = str(wanted[0])
    slices = tuple(compared.slices(first)) if data.slices else ()
    gained, lost = compared.movers(first, movers) if baseline is not None else ((), ())
    progress(1.0)
    return Evaluation(
        model=rankers[0],
        baseline=rankers[1] if baseline is not None else None,
        source=data.source,
        partly_absent=data.partly_absent,
        unverified_codes=data.unverified_codes,
        queries=len(data.sizes),
        candidates=len(data.labels),
        without_relevant=int((judgements.num_relevant == 0).sum()),
        labels=data.labels,
        relevant_from=relevant_from,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        propensities=data.propensities is not None,
        metrics=measured,
        slices=slices,
        gained=gained,
        lost=lost,
        gates=tuple(_checked(gate, measured) for gate in parsed_gates),
    )


def _loaded(model: ModelOrPath) -> Model:
    if isinstance(model, Model):
        return model
    loaded = Model.load(model, threads=os.cpu_count() or 1)
    # On several threads onnxruntime adds up in another order than on a worker's one.
    return loaded if loaded.engine.exact else Model.load(model)


def _read(
    path: str | PathLike[str],
    outcomes: str | PathLike[str] | None,
    models: Sequence[Model],
    columns: Columns,
    first_index: int,
) -> RankingData:
    features = [name for each in models for name in each.feature_names]
    width = max(each.features.num_features for each in models)
    if outcomes is None:
        if is_log(os.fspath(path)):
            raise InvalidRequestError("data", f"{path} is a ranking log: expected --outcomes, too")
        categorical = {name for each in models for name in each.categories}
        return read_data(path, features, columns, first_index, width, categorical)
    if columns.weight or columns.group != Columns.group:
        raise InvalidRequestError("columns", "lists of a log have no column of ids or weights")
    labels = Outcomes.read(outcomes, columns.label, columns.propensity)
    codes = [Codes(each) for each in models]
    return read_labelled_log(os.fspath(path), labels, features, width, columns.slices, codes)


def _part(progress: Progress, which: int, of: int) -> Progress:
    return lambda share: progress(_SCORING * (which + share) / of)


def _measured(
    model: Model,
    data: RankingData,
    judgements: Judgements,
    metrics: Sequence[Metric],
    progress: Progress,
) -> Ranker:
    """Scores the candidates and measures each query."""
    candidates = len(data.labels)
    scores = np.empty(candidates, np.float32)
    for part in _parts(data.sizes):
        scores[part] = model.score(data.rows(model, part))
        progress(0.7 * part.stop / candidates)
    order = Order(judgements, scores)
    values = {str(metric): order.values(metric) for metric in metrics}
    progress(1.0)
    return Ranker(
        name=model.name,
        version=model.version,
        digest=model.digest,
        engine=model.engine_name,
        absent=tuple(data.absent(model)),
        tied=order.tied_share(),
        first_relevant=order.first_relevant(),
        scores=scores,
        values=values,
    )


def _parts(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Whole queries, whose candidates are scored at once: equal ones get equal scores so."""
    ends = np.cumsum(sizes)
    begin = 0
    while begin < ends[-1]:
        last = int(np.searchsorted(ends, begin + _ROWS_AT_ONCE, side="right")) - 1
        first = int(np.searchsorted(ends, begin, side="right"))
        end = int(ends[max(first, last)])
        yield slice(begin, end)
        begin = end


class _Comparison:
    """Means over queries, with intervals, of one or two rankers."""

    def __init__(
        self,
        data: RankingData,
        rankers: Sequence[Ranker],
        resamples: int,
        confidence: float,
        seed: int,
    ) -> None:
        self._data = data
        self._rankers = rankers
        self._resamples = resamples
        self._confidence = confidence
        self._seed = seed

    def metrics(self, names: Sequence[str], progress: Progress) -> tuple[MetricResult, ...]:
        """The metrics over all queries."""
        return self._results(
            names,
            np.arange(len(self._data.sizes)),
            lambda share: progress(_SCORING + (1 - _SCORING) * share),
        )

    def slices(self, name: str) -> Iterator[SliceResult]:
        """One metric over the queries of each slice."""
        for column, values in self._data.slices.items():
            for value, queries in sliced(values):
                (result,) = self._results([name], queries, lambda _: None)
                candidates = int(self._data.sizes[queries].sum())
                yield SliceResult(column, value, len(queries), candidates, result)

    def movers(self, name: str, count: int) -> tuple[tuple[Mover, ...], tuple[Mover, ...]]:
        """The queries on which one metric rose most, and those on which it fell most."""
        model, baseline = self._rankers
        change = model.values[name] - baseline.values[name]
        rising = np.argsort(-change, kind="stable")

        def mover(query: int) -> Mover:
            return Mover(
                query=str(self._data.queries[query]),
                candidates=int(self._data.sizes[query]),
                model=float(model.values[name][query]),
                baseline=float(baseline.values[name][query]),
                first_relevant=int(model.first_relevant[query]),
                first_relevant_before=int(baseline.first_relevant[query]),
            )

        gained = tuple(mover(query) for query in rising[:count] if change[query] > 0)
        lost = tuple(mover(query) for query in rising[::-1][:count] if change[query] < 0)
        return gained, lost

    def _results(
        self, names: Sequence[str], queries: NDArray[np.intp], progress: Progress
    ) -> tuple[MetricResult, ...]:
        values = {
            name: [ranker.values[name][queries] for ranker in self._rankers] for name in names
        }
        settings = self._resamples, self._confidence, self._seed
        return results(values, self._data.weights[queries], *settings, progress)


def _checked(gate: Gate, measured: Sequence[MetricResult]) -> GateResult:
    result = next(result for result in measured if result.metric == str(gate.metric))
    baseline = result.baseline.value if result.baseline else None
    value = result.model.value
    if gate.low and gate.relative and result.difference is not None and baseline is not None:
        value = baseline + result.difference.low
    elif gate.low:
        value = result.model.low
    return GateResult(gate.text, value, gate.limit(baseline), gate.passes(value, baseline))
