"""From scores to a ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Scores

_PARTITION_FROM = 512
"""Below this many candidates a full sort is faster than a selection before it."""


def best_first(scores: Scores, top_k: int = 0) -> NDArray[np.intp]:
    """Positions of the best scores, best first; equal scores keep their order.

    Args:
        scores: float32 [n]. NaN, which no tree ensemble of finite leaves
            gives, ranks last.
        top_k: how many to return; 0, or n and more, returns all n.

    Returns:
        intp [min(top_k or n, n)].
    """
    keys = -scores
    if not 0 < top_k < len(keys):
        return keys.argsort(kind="stable")
    if len(keys) < _PARTITION_FROM:
        return keys.argsort(kind="stable")[:top_k]
    # All that could be among the k best, in the order of the candidates: ties
    # with the k-th best stay in until the stable sort has decided among them.
    last = np.partition(keys, top_k - 1)[top_k - 1]
    if np.isnan(last):
        return keys.argsort(kind="stable")[:top_k]
    contenders = np.flatnonzero(keys <= last)
    order = keys[contenders].argsort(kind="stable")[:top_k]
    return contenders[order]
