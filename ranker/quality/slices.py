"""Slices: queries told apart by the value of a column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_VALUES = 12
"""Slices of a column; a number with more different values is cut into quarters, and of texts
the least frequent go together."""

OTHERS = "(all others)"


def sliced(values: NDArray[Any]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Tells queries apart by a column.

    Args:
        values: [Q], of numbers or texts.

    Yields:
        What the values of a slice have in common, and its queries. Numbers come in
        their order, texts with the most frequent first.
    """
    different, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(different) <= MOST_VALUES:
        order = range(len(different)) if _is_number(values) else np.argsort(-counts, kind="stable")
        for i in order:
            yield _text(different[i]), np.flatnonzero(inverse == i)
    elif _is_number(values):
        yield from _quarters(values.astype(np.float64))
    else:
        largest = np.argsort(-counts, kind="stable")[: MOST_VALUES - 1]
        for i in largest:
            yield _text(different[i]), np.flatnonzero(inverse == i)
        yield OTHERS, np.flatnonzero(~np.isin(inverse, largest))


def _quarters(values: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="inverted_cdf"))
    which = np.searchsorted(edges, values, side="left")
    for i in range(len(edges) + 1):
        queries = np.flatnonzero((which == i) & ~np.isnan(values))
        if len(queries):
            yield _range(edges, i), queries
    if len(known) < len(values):
        yield "nan", np.flatnonzero(np.isnan(values))


def _range(edges: NDArray[np.float64], i: int) -> str:
    if i == 0:
        return f"up to {edges[0]:g}"
    if i == len(edges):
        return f"above {edges[-1]:g}"
    return f"above {edges[i - 1]:g}, up to {edges[i]:g}"


def _is_number(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iufb"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)
