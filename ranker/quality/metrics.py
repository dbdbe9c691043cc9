"""Metrics of rankings, one value per query, each as XGBoost's own `eval` has it.

| name | of a query's ranking, cut off after k | source |
| --- | --- | --- |
| `ndcg` | discounted gain over that of the best order; gain 2^label - 1 | XGBoost's `ndcg` |
| `ndcg_linear` | the same with the label as gain | XGBoost's with `ndcg_exp_gain=false` |
| `dcg`, `dcg_linear` | not divided by that of the best order | |
| `map` | mean of the precisions at the relevant candidates | XGBoost's `map` |
| `mrr` | 1 / the place of the first relevant candidate | TREC's `recip_rank` |
| `precision` | relevant candidates over candidates | XGBoost's `pre` |
| `recall` | relevant candidates over all relevant ones | TREC's `recall` |

Candidates of equal score stand in the order in which the data has them, as the
server ranks them and as XGBoost's `eval` sorts. The discount of place i, from 1
on, is 1 / log2(i + 1). A query that is shorter than k is taken as it is: its
precision is over its own length, as XGBoost's is (TREC's is over k).

A query without a relevant candidate has no `ndcg` and no `map`. As in XGBoost it
counts as 1, or as 0 where the name ends in `-`: `ndcg@10-`. Its other metrics are 0.
Where queries have weights, XGBoost 3.2 forgets that of such a query, in `ndcg` alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError

NAMES = ("ndcg", "ndcg_linear", "dcg", "dcg_linear", "map", "mrr", "precision", "recall")

_ALIASES = {"pre": "precision"}

_SUMS = ("ndcg", "ndcg_linear", "dcg", "dcg_linear", "precision", "recall")
"""Those whose numerator is a sum over candidates, so that each can be weighted by itself."""

MAX_EXPONENT = 31
"""The largest label whose gain is 2^label - 1; XGBoost's own limit ("Learning to Rank" in its
documentation, `ndcg_exp_gain`). From 1024 on there is no such number of 64 bits."""

PATTERN = rf"(?:{'|'.join([*sorted(NAMES, key=len, reverse=True), *_ALIASES])})(?:@[1-9]\d*)?-?"
"""A metric's name as a regular expression."""


@dataclass(frozen=True)
class Metric:
    """A metric and its cut-off; as a string, its name: `ndcg@10`.

    Attributes:
        name: one of `NAMES`.
        k: how many of the best count; 0 for all.
        zero_if_none: whether `ndcg` and `map` of a query without a relevant
            candidate are 0 instead of 1.
    """

    name: str
    k: int = 0
    zero_if_none: bool = False

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Reads a name such as `ndcg@10`, `map` or `ndcg@5-`; `pre` is `precision`.

        Raises:
            InvalidRequestError: there is no such metric.
        """
        text = text.strip()
        if not re.fullmatch(PATTERN, text):
            raise InvalidRequestError(
                "metric",
                f"expected one of {', '.join(NAMES)}, with or without a cut-off as in ndcg@10, "
                f"got {text!r}",
            )
        name, _, k = text.removesuffix("-").partition("@")
        return cls(_ALIASES.get(name, name), int(k or 0), text.endswith("-"))

    def __str__(self) -> str:
        """The name that `parse` reads."""
        return self.name + (f"@{self.k}" if self.k else "") + "-" * self.zero_if_none

    @property
    def weighable(self) -> bool:
        """Whether each candidate can be weighted by itself."""
        return self.name in _SUMS


class Judgements:
    """What is known of the candidates of each query, whatever order they are put in.

    Args:
        labels: [n], graded relevance, from 0 on; queries one after the other.
        sizes: [Q], how many candidates each query has; none is 0.
        relevant_from: the least label that counts as relevant where relevance
            is yes or no.
        weights: [n], by which each candidate's gain counts; None: 1.
    """

    def __init__(
        self,
        labels: NDArray[np.float32],
        sizes: NDArray[np.int64],
        relevant_from: float = 1.0,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.labels = labels.astype(np.float64)
        self.sizes = sizes
        self.begins = np.cumsum(sizes) - sizes
        self.query = np.repeat(np.arange(len(sizes)), sizes)
        self.relevant = self.labels >= np.float32(relevant_from)  # as the labels are
        self.weights = weights
        # A candidate's place within its query, once each query is sorted.
        place = np.arange(len(labels)) - self.begins[self.query]
        self.place = place
        self.discount = 1 / np.log2(place + 2)
        self._ideal: dict[Metric, NDArray[np.float64]] = {}

    @cached_property
    def num_relevant(self) -> NDArray[np.float64]:
        """Relevant candidates of each query, weighted."""
        return self.per_query(self.weighted(self.relevant))

    def weighted(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """Values of candidates, times their weights."""
        numbers: NDArray[np.float64] = values.astype(np.float64)
        return numbers if self.weights is None else numbers * self.weights

    def gain(self, metric: Metric) -> NDArray[np.float64]:
        """What each candidate is worth.

        Raises:
            InvalidRequestError: a label is too large for the gain 2^label - 1.
        """
        linear = metric.name.endswith("_linear")
        if not linear and (largest := self.labels.max(initial=0)) > MAX_EXPONENT:
            raise InvalidRequestError(
                "labels",
                f"{metric} has a gain of 2^label - 1, and a label is {largest:g}: expected at most "
                f"{MAX_EXPONENT}, as in XGBoost. Take {metric.name}_linear, whose gain is the "
                "label, or fewer grades",
            )
        return self.weighted(self.labels if linear else np.exp2(self.labels) - 1)

    def per_query(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums the values of each query's candidates."""
        sums: NDArray[np.float64] = np.add.reduceat(values, self.begins)
        return sums

    def within(self, k: int) -> NDArray[np.bool_]:
        """Which places count."""
        return self.place < k if k else np.ones(len(self.place), np.bool_)

    def sorted_by(self, keys: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.intp]:
        """Each query's candidates, the largest key first; equal ones in their own order."""
        return np.lexsort((-keys, self.query))

    def ideal(self, metric: Metric) -> NDArray[np.float64]:
        """The discounted gain of each query's best order."""
        if metric not in self._ideal:
            gain = self.gain(metric)
            self._ideal[metric] = self.discounted(gain[self.sorted_by(gain)], metric.k)
        return self._ideal[metric]

    def discounted(self, sorted_gain: NDArray[np.float64], k: int) -> NDArray[np.float64]:
        """The discounted gain of each query's order."""
        return self.per_query(sorted_gain * self.discount * self.within(k))


class Order:
    """The candidates of each query, best score first.

    Args:
        judgements: of the candidates.
        scores: [n].
    """

    def __init__(self, judgements: Judgements, scores: NDArray[np.float32]) -> None:
        self._judgements = judgements
        self._order = judgements.sorted_by(scores)
        self._hits = judgements.relevant[self._order]
        self._scores = scores[self._order]

    def values(self, metric: Metric) -> NDArray[np.float64]:
        """The metric of each query, float64 [Q].

        Raises:
            InvalidRequestError: it is no sum over candidates, and they are weighted.
        """
        judged = self._judgements
        if judged.weights is not None and not metric.weighable:
            raise InvalidRequestError(
                "metric",
                f"{metric} is no sum over candidates, which inverse propensities need; "
                f"expected one of {', '.join(_SUMS)}",
            )
        if metric.name.startswith(("ndcg", "dcg")):
            return self._gains(metric)
        if metric.name == "map":
            return self._average_precision(metric)
        if metric.name == "mrr":
            return self._reciprocal_rank(metric)
        hits = judged.weighted(judged.relevant)[self._order] * judged.within(metric.k)
        found = judged.per_query(hits)
        if metric.name == "precision":
            shown = np.minimum(judged.sizes, metric.k) if metric.k else judged.sizes
            return found / shown
        return _ratio(found, judged.num_relevant, 0.0)

    def first_relevant(self) -> NDArray[np.int64]:
        """The place of each query's first relevant candidate, from 1 on; 0 if it has none."""
        judged = self._judgements
        places = np.where(self._hits, judged.place + 1, np.iinfo(np.int64).max)
        first = np.minimum.reduceat(places, judged.begins)
        return np.where(first == np.iinfo(np.int64).max, 0, first)

    def tied_share(self) -> float:
        """The share of candidates whose score is also that of one with another label."""
        judged = self._judgements
        labels = judged.labels[self._order]
        begins = np.append(True, self._scores[1:] != self._scores[:-1])
        begins[judged.begins] = True
        runs = np.flatnonzero(begins)
        mixed = np.minimum.reduceat(labels, runs) != np.maximum.reduceat(labels, runs)
        sizes = np.diff(runs, append=len(labels))
        return float(sizes[mixed].sum() / len(labels))

    def _gains(self, metric: Metric) -> NDArray[np.float64]:
        judged = self._judgements
        reached = judged.discounted(judged.gain(metric)[self._order], metric.k)
        if metric.name.startswith("dcg"):
            return reached
        return _ratio(reached, judged.ideal(metric), 0.0 if metric.zero_if_none else 1.0)

    def _average_precision(self, metric: Metric) -> NDArray[np.float64]:
        judged = self._judgements
        hits = self._hits.astype(np.float64)
        so_far = np.cumsum(hits)
        so_far -= (so_far[judged.begins] - hits[judged.begins])[judged.query]
        precisions = hits * so_far / (judged.place + 1) * judged.within(metric.k)
        most = judged.num_relevant
        if metric.k:
            most = np.minimum(most, metric.k)
        return _ratio(judged.per_query(precisions), most, 0.0 if metric.zero_if_none else 1.0)

    def _reciprocal_rank(self, metric: Metric) -> NDArray[np.float64]:
        first = self.first_relevant()
        found = (first > 0) & ((first <= metric.k) | (metric.k == 0))
        reciprocal: NDArray[np.float64] = found / np.maximum(first, 1)
        return reciprocal


def _ratio(
    above: NDArray[np.float64], below: NDArray[np.float64], otherwise: float
) -> NDArray[np.float64]:
    ratio = np.full(len(above), otherwise)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio
