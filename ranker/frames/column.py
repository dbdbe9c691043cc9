"""One column: numbers, or labels by their distinct values."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.errors import InvalidRequestError


class Labels(NamedTuple):
    """A column of texts, or of the categories of a categorical column.

    Attributes:
        dictionary: its values, texts or integers; rows may use some of them only.
        indices: [n]; the position in `dictionary` of each row's value;
            negative: missing.
    """

    dictionary: Sequence[str | int]
    indices: NDArray[np.integer]


Column = NDArray[Any] | Labels
"""[n] numbers of a real dtype, NaN for missing; or labels."""


def length(column: Column) -> int:
    """How many rows a column has."""
    return len(column.indices if isinstance(column, Labels) else column)


def all_missing(column: Column) -> bool:
    """Whether no row has a value."""
    if isinstance(column, Labels):
        return not (column.indices >= 0).any()
    return column.dtype.kind == "f" and bool(np.isnan(column).all())


def in_use(indices: NDArray[np.integer]) -> tuple[list[int], NDArray[np.integer]]:
    """Which entries of a dictionary rows use, of perhaps a million that there are.

    Args:
        indices: [n]; as in `Labels`.

    Returns:
        The entries, ascending, and the rows' positions among these; -1: missing.
    """
    used, positions = np.unique(np.maximum(indices, -1), return_inverse=True)
    missing = int(used[:1].tolist() == [-1])
    return used[missing:].tolist(), positions - missing


def labels(place: str, dictionary: Iterable[Any], indices: NDArray[np.integer]) -> Labels:
    """Labels of a categorical column, whose values are checked.

    Args:
        place: what to call the column in an error.
        dictionary: the column's categories.
        indices: [n]; as in `Labels`.

    Raises:
        InvalidRequestError: the categories are neither texts nor integers.
    """
    values = list(dictionary)
    for value in values:
        if not isinstance(value, (str, int, np.integer)) or isinstance(value, bool):
            raise InvalidRequestError(
                place,
                f"expected categories that are texts or integers, got the {type(value).__name__} "
                f"{value!r}",
            )
    return Labels([v if isinstance(v, str) else int(v) for v in values], indices)


def encoded(place: str, texts: Iterable[Any]) -> Labels:
    """Labels of a column of texts, of which some may be None: missing.

    Raises:
        InvalidRequestError: one is no text.
    """
    dictionary: dict[str, int] = {}
    indices = []
    for text in texts:
        if text is None:
            indices.append(-1)
        elif isinstance(text, str):
            indices.append(dictionary.setdefault(text, len(dictionary)))
        else:
            raise InvalidRequestError(
                place, f"expected numbers, or text, got the {type(text).__name__} {text!r}"
            )
    return Labels(list(dictionary), np.asarray(indices, np.intp))


def joined(chunks: Sequence[Column]) -> Column:
    """A column of all rows of one or more parts, which are all numbers or all labels."""
    if len(chunks) == 1:
        return chunks[0]
    dictionary: list[str | int] = []
    parts = []
    for chunk in chunks:
        if isinstance(chunk, Labels):
            parts.append(np.where(chunk.indices < 0, -1, chunk.indices + len(dictionary)))
            dictionary += chunk.dictionary
        else:
            parts.append(chunk)
    if isinstance(chunks[0], Labels):
        return Labels(dictionary, np.concatenate(parts))
    if len({part.dtype for part in parts}) > 1:
        # Integers or truth values, of which only some parts lack any. Together NumPy would make
        # them float64, which rounds large integers before they are rounded to float32.
        parts = [part.astype(np.float32) for part in parts]
    return np.concatenate(parts)


def is_masked(values: object) -> bool:
    """Whether some values are masked, of an array or a list of such: NumPy forgets the mask."""
    masked = sys.modules.get("numpy.ma")  # to import it takes longer than to rank a list
    if masked is None:
        return False
    parts = values if isinstance(values, (list, tuple)) else [values]
    return any(isinstance(part, masked.MaskedArray) and masked.is_masked(part) for part in parts)


def as_float32(field: str, values: ArrayLike) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Numbers as C-contiguous little-endian float32; not copied if they are that already.

    Args:
        field: what to call them in an error.
        values: an array of any shape and real dtype, or lists of numbers.

    Raises:
        InvalidRequestError: they are not real numbers, beyond float32, or masked.
    """
    if is_masked(values):
        raise InvalidRequestError(
            field,
            "some values are masked, which XGBoost does not see: it reads what is under the mask. "
            "Pass array.filled(numpy.nan) to make them missing",
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidRequestError(field, f"expected rows of one length: {error}") from error
    if array.dtype.kind not in "fiub":
        raise InvalidRequestError(
            field, f"expected real numbers with NaN for missing, got dtype {array.dtype}"
        )
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array, "<f4")
    except FloatingPointError as error:
        raise InvalidRequestError(
            field, f"a finite value is beyond float32's ±{np.finfo(np.float32).max:.4g}"
        ) from error
