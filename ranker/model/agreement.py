"""How far two models agree on a list: the best candidates, the order, the scores."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Scores
from ranker.model.order import best_first


def overlap(scores: Scores, others: Scores, k: int) -> float:
    """The share of the best `k` candidates that both have among their best `k`.

    Args:
        scores: float32 [n], of one model.
        others: float32 [n], of the other one, of the same candidates.
        k: how many; of a shorter list all.

    Returns:
        From 0 to 1.
    """
    both = {*best_first(scores, k).tolist()} & {*best_first(others, k).tolist()}
    return len(both) / min(k, len(scores))


def tau_b(scores: Scores, others: Scores) -> float:
    """Kendall's tau-b: the rank correlation of two models' scores, corrected for ties.

    A pair of candidates is concordant if both models order it alike, discordant if they order it
    oppositely, and neither if one has it tied. After Knight, "A Computer Method for Calculating
    Kendall's Tau with Ungrouped Data", JASA 61 (1966): sorted by one model's scores, the
    discordant pairs are the inversions of the other's. It takes O(n log n) comparisons.

    Args:
        scores: float32 [n], of one model.
        others: float32 [n], of the other one, of the same candidates.

    Returns:
        From -1, the reverse order, to 1, the same; NaN if one model ties all candidates.
    """
    first, second = _ranks(scores), _ranks(others)
    # One number per candidate, by which to sort by the one and then by the other.
    both = first * len(first) + second
    pairs = _pairs(np.array([len(first)]))
    tied_first, tied_second = _pairs(np.bincount(first)), _pairs(np.bincount(second))
    tied_both = _pairs(np.bincount(_ranks(both)))
    if pairs in (tied_first, tied_second):
        return math.nan
    discordant = _inversions(second[both.argsort()].tolist())
    surplus = pairs - tied_first - tied_second + tied_both - 2 * discordant
    # Integers up to here; the roots apart, since the product may need more than 53 bits.
    return surplus / math.sqrt(pairs - tied_first) / math.sqrt(pairs - tied_second)


def score_shift(scores: Scores, others: Scores) -> float:
    """By how much scores differ: the mean absolute difference, in standard deviations of `scores`.

    Args:
        scores: float32 [n], of one model.
        others: float32 [n], of the other one, of the same candidates.

    Returns:
        0 or more; NaN if `scores` are all the same.
    """
    spread = float(scores.std(dtype=np.float64))
    if spread == 0.0:
        return math.nan
    return float(np.abs(scores.astype(np.float64) - others).mean()) / spread


def _ranks(values: NDArray[Any]) -> NDArray[np.intp]:
    """Each value's place among the different values, from 0."""
    order = values.argsort(kind="stable")
    ordered = values[order]
    ranks = np.zeros(len(values), np.intp)
    ranks[order[1:]] = np.cumsum(ordered[1:] != ordered[:-1])
    return ranks


def _pairs(counts: NDArray[np.intp]) -> int:
    """How many pairs can be made within groups of so many."""
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: Iterable[int]) -> int:
    """How many pairs stand the wrong way round: the larger one first."""
    inversions = 0
    before: list[int] = []
    for rank in ranks:
        place = bisect_right(before, rank)
        inversions += len(before) - place
        before.insert(place, rank)  # moves memory, which is fast for as many as a list has
    return inversions
