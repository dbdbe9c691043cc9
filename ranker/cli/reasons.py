"""Why a candidate is where it is, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ranker.categories import Categories
from ranker.cli.candidates import Candidates
from ranker.client import Explanation
from ranker.client.known_models import KnownModel
from ranker.v1 import ranking_pb2 as pb

MOST = 5
"""Features that are named."""


def reasons(
    explanation: Explanation, candidates: Candidates, index: int, model: pb.Model
) -> Iterator[str]:
    """A line for each feature that moved a candidate most, and one for all that is left.

    Args:
        explanation: the candidate's.
        candidates: what was sent.
        index: which of them it is.
        model: that has ranked them.
    """
    values = _values(candidates, index, tuple(model.feature_names))
    categories = KnownModel.of(model).categories
    named = explanation.strongest(MOST)
    for name, added in named.items():
        value = _text(values.get(name, math.nan), categories.get(name))
        yield f"{added:+.4f}  {name} = {value}"
    total = float(explanation.contributions.sum(dtype=float))
    others = len(explanation.contributions) - len(named)
    if others:
        rest = total - sum(named.values())
        yield f"{rest:+.4f}  the {others} other features"
    yield f"{explanation.bias:+.4f}  what any candidate has"


def _values(candidates: Candidates, index: int, names: tuple[str, ...]) -> Mapping[str, float]:
    """A candidate's features by name; of a model without names, as `Explanation.strongest`."""
    row = candidates.features[index].tolist()
    known = tuple(name for name in names if name not in candidates.context)
    names = candidates.feature_names or known or tuple(f"f{i}" for i in range(len(row)))
    return {**dict(zip(names, row, strict=True)), **candidates.context}


def _text(value: float, categories: Categories | None) -> str:
    if math.isnan(value):
        return "missing"
    known = categories.values if categories else ()
    if 0 <= value < len(known):
        return str(known[int(value)])
    return f"{value:g}"
