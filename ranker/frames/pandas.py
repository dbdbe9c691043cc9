"""Frames of pandas, and what is like them, read by their attributes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranker.errors import InvalidRequestError
from ranker.frames.column import Column, as_float32, encoded, in_use, labels


def read_pandas(frame: Any) -> tuple[list[str], list[Column], bool]:
    """The names and the columns of a frame; numbers become texts, as in XGBoost.

    Returns:
        The names, the columns, and whether the names are but the numbers from 0 on, as
        in a frame that was made of a matrix.

    Raises:
        InvalidRequestError: a name or a column is of a kind that has no place here.
    """
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, (str, int, np.integer)):
            raise InvalidRequestError("features", f"expected column names of text, got {name!r}")
    dtypes = list(frame.dtypes)
    # Columns of one dtype at once, which is much faster; of several NumPy would make float64, which
    # rounds large integers before they are rounded to float32.
    alike: dict[Any, list[int]] = {}
    for position, dtype in enumerate(dtypes):
        if isinstance(dtype, np.dtype) and dtype.kind in "fiu":
            alike.setdefault(dtype, []).append(position)
    columns: dict[int, Column] = {}
    for plain in alike.values():
        columns.update(zip(plain, frame.iloc[:, plain].to_numpy().T, strict=True))
    for position in set(range(len(names))) - columns.keys():
        place = f"features, column {names[position]!r}"
        columns[position] = _column(place, frame.iloc[:, position])
    numbered = names == list(range(len(names)))
    in_order = [column for _, column in sorted(columns.items())]
    return [str(name) for name in names], in_order, numbered


def _column(place: str, column: Any) -> Column:
    dtype = column.dtype
    if hasattr(dtype, "categories"):
        used, positions = in_use(np.asarray(column.cat.codes))
        return labels(place, dtype.categories[used], positions)
    kind = getattr(dtype, "kind", "")
    if kind in ("f", "i", "u", "b"):
        if isinstance(dtype, np.dtype):
            return np.asarray(column)
        # pandas' own dtypes, and Arrow's in pandas, have NA for missing.
        if kind in ("i", "u") and hasattr(dtype, "numpy_dtype"):  # a sparse dtype has none
            # float64 would round large integers before they are rounded to float32.
            numbers = column.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
            missing = np.asarray(column.isna(), np.bool_)
            return np.where(missing, np.float32(np.nan), as_float32(place, numbers))
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind in ("O", "U", "T"):
        missing = np.asarray(column.isna(), np.bool_)
        values = zip(missing, column, strict=True)
        return encoded(place, (None if gone else value for gone, value in values))
    raise InvalidRequestError(place, f"expected numbers, text or categories, got {dtype}")
