"""Ranks the lists of a log again: are these the answers, and what would another model say?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.model import Model
from ranker.model.agreement import tau_b
from ranker.model.order import best_first
from ranker.quality.codes import Codes
from ranker.quality.evaluation import MetricResult
from ranker.quality.logged_rows import NamedRows, rows_as_served
from ranker.quality.means import results
from ranker.quality.metrics import Judgements, Metric, Order
from ranker.quality.outcomes import Judged, Outcomes
from ranker.ranking_log.reader import LoggedList, in_batches

FORMAT = 1
"""Of the JSON; counts up when something in it changes its meaning or goes."""

_ROWS_AT_ONCE = 1 << 13
"""Candidates that are scored at once."""

_RESAMPLES, _CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class MovedList:
    """A list that two models order differently.

    Attributes:
        request_id: the caller's mark.
        time_unix_nanos: when it was answered.
        candidates: how many it has.
        overlap: the share of the best that both have.
        tau: Kendall's tau-b of the shown candidates.
        best: the candidate that was shown first, by its place in the request.
        best_now: its place in the model's order, from 1.
    """

    request_id: str
    time_unix_nanos: int
    candidates: int
    overlap: float
    tau: float
    best: int
    best_now: int


@dataclass
class Replay:
    """What came of it.

    Attributes:
        model: name and version of the model.
        engine: what it was scored with.
        lists: how many were ranked again.
        candidates: how many these have.
        same: lists of the very model whose answers are what the log has, to the bit.
        different: lists of the very model whose answers are others.
        first_different: the first of these, for a person; empty: there is none.
        excluded: lists of the very model that can't be ranked again: features were left out.
        compared: lists of other models.
        k: of how many of the best the overlap is.
        overlap: mean share of the best that both models have.
        tau: mean of Kendall's tau-b over the shown candidates, of lists where it is defined.
        first_kept: of the compared lists, the share whose first candidate is the same.
        absent: features of the model that compared lists did not have.
        unverified_codes: categorical features that they have, and of which one of the two models
            knows no categories: whether the codes mean the same to both can't be told.
        moved: the lists whose order changed most.
        joined: compared lists with outcomes.
        metrics: of these, each counted as often as it stands for others; the baseline is the
            order that was shown.
    """

    model: str
    engine: str
    k: int
    lists: int = 0
    candidates: int = 0
    same: int = 0
    different: int = 0
    first_different: str = ""
    excluded: int = 0
    compared: int = 0
    overlap: float = math.nan
    tau: float = math.nan
    first_kept: float = math.nan
    absent: tuple[str, ...] = ()
    unverified_codes: tuple[str, ...] = ()
    moved: tuple[MovedList, ...] = ()
    joined: int = 0
    metrics: tuple[MetricResult, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For JSON: NaN is null."""
        found = {"format": FORMAT, **asdict(self)}
        cleaned: dict[str, Any] = _without_nan(found)
        return cleaned


def replay(
    lists: Iterator[LoggedList],
    model: Model,
    *,
    outcomes: Outcomes | None = None,
    metrics: Sequence[str] = ("ndcg@10",),
    k: int = 10,
    movers: int = 10,
) -> Replay:
    """Ranks lists again.

    Those that this very model has ranked, by the digest of its file, are held against their
    answers: order and scores must be the same to the bit. Those of other models are compared with
    what it says of them.

    Args:
        lists: of a log.
        model: ranks them.
        outcomes: what readers did; None: not known.
        metrics: what to measure where it is known; see `ranker.quality.metrics`.
        k: of how many of the best the overlap is.
        movers: how many of the lists that changed most to keep.

    Raises:
        InvalidRequestError: a list can't be given to the model, or codes of its categories stand
            for others there; or outcomes can't be joined, or none of them belongs to the lists.
    """
    wanted = [Metric.parse(name) for name in metrics]
    found = Replay(f"{model.name}@{model.version}", model.engine_name, k)
    other = _Comparison(k, movers)
    others_rows = NamedRows(model.feature_names, model.features.num_features)
    codes = Codes(model)
    for some in in_batches(lists, _ROWS_AT_ONCE):
        kept: list[LoggedList] = []
        blocks: list[NDArray[np.float32]] = []
        for logged in some:
            is_own = logged.record.model_sha256 == model.digest
            if is_own and logged.record.excluded_features:
                found.excluded += 1
                continue
            codes.check(logged)
            rows = rows_as_served(model.features, logged) if is_own else others_rows.rows(logged)
            kept.append(logged)
            blocks.append(rows)
        if not blocks:
            continue
        scores = model.engine.score(blocks)
        ends = np.cumsum([len(block) for block in blocks])
        for logged, own in zip(kept, np.split(scores, ends[:-1]), strict=True):
            found.lists += 1
            found.candidates += len(own)
            judged = None if outcomes is None else outcomes.of(logged)
            if logged.record.model_sha256 != model.digest:
                other.add(logged, own, judged)
            elif _is_answer(logged, own):
                found.same += 1
            else:
                found.different += 1
                found.first_different = found.first_different or str(logged)
    if outcomes is not None:
        outcomes.check()
    other.into(found, wanted)
    found.absent = tuple(sorted(others_rows.absent))
    found.unverified_codes = tuple(sorted(codes.unverified))
    return found


def _is_answer(logged: LoggedList, scores: NDArray[np.float32]) -> bool:
    """Whether these scores give the logged answer: the same order, and the same bits."""
    response, ids = logged.response, logged.request.candidate_ids
    order = best_first(scores, logged.request.top_k)
    logged_scores = np.array(response.scores, np.float32)
    return (
        order.tolist() == list(response.indices)
        and scores[order].tobytes() == logged_scores.tobytes()
        and [ids[at] for at in order if ids] == list(response.candidate_ids)
    )


class _Comparison:
    """Gathers how a model's order of lists differs from the one that was shown."""

    def __init__(self, k: int, movers: int) -> None:
        self._k = k
        self._movers = movers
        self._overlaps: list[float] = []
        self._taus: list[float] = []
        self._first_kept = 0
        self._moved: list[MovedList] = []
        self._labels: list[NDArray[np.float32]] = []
        self._shown: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []
        self._weights: list[float] = []

    def add(self, logged: LoggedList, scores: NDArray[np.float32], judged: Judged | None) -> None:
        """Notes a list, what the model says of its candidates, float32 [n], and what came of it."""
        shown = np.array(logged.response.indices, np.intp)
        if not len(shown):
            return
        before = np.array(logged.response.scores, np.float32)
        order = best_first(scores)
        count = min(self._k, len(shown))  # what was not shown may be among the best now
        share = len({*order[:count].tolist()} & {*shown[:count].tolist()}) / count
        tau = tau_b(before, scores[shown])
        self._overlaps.append(share)
        self._taus.append(tau)
        self._first_kept += int(order[0] == shown[0])
        place = int(np.flatnonzero(order == shown[0])[0]) + 1
        record = logged.record
        facts = (logged.request.request_id, record.time_unix_nanos, len(scores))
        self._moved.append(MovedList(*facts, share, tau, int(shown[0]), place))
        if len(self._moved) > 2 * self._movers + 1000:
            self._trim()
        if judged is not None:
            # In the request's order, by which ties are broken, and not in that of the old model.
            asked = np.argsort(shown)
            self._labels.append(judged.labels[asked])
            # The order that was shown, not its scores: arms may have scales of their own.
            self._shown.append(-asked.astype(np.float32))
            self._scores.append(scores[shown[asked]])
            self._weights.append(logged.weight)

    def into(self, found: Replay, metrics: Sequence[Metric]) -> None:
        """Sums up."""
        found.compared = len(self._overlaps)
        found.joined = len(self._labels)
        if self._overlaps:
            taus = [tau for tau in self._taus if not math.isnan(tau)]
            found.overlap = float(np.mean(self._overlaps))
            found.tau = float(np.mean(taus)) if taus else math.nan
            found.first_kept = self._first_kept / len(self._overlaps)
            self._trim()
            found.moved = tuple(self._moved)
        if self._labels:
            found.metrics = self._measured(metrics)

    def _trim(self) -> None:
        """Keeps the lists that changed most."""
        changed = [each for each in self._moved if each.tau < 1 or each.overlap < 1]
        # Of a single candidate, or where all have one score, there is no tau.
        changed.sort(key=lambda each: (1 if math.isnan(each.tau) else each.tau, each.overlap))
        self._moved = changed[: self._movers]

    def _measured(self, metrics: Sequence[Metric]) -> tuple[MetricResult, ...]:
        sizes = np.array([len(labels) for labels in self._labels], np.int64)
        judged = Judgements(np.concatenate(self._labels), sizes)
        orders = [Order(judged, np.concatenate(each)) for each in (self._scores, self._shown)]
        values = {str(metric): [order.values(metric) for order in orders] for metric in metrics}
        return results(values, np.array(self._weights), _RESAMPLES, _CONFIDENCE, seed=0)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
