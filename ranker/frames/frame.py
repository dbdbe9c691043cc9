"""A data frame, and the rows that a model makes of it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.categories import Categories
from ranker.errors import InvalidRequestError
from ranker.frames.arrow import read_arrow
from ranker.frames.column import Column, Labels, all_missing, as_float32, length
from ranker.frames.pandas import read_pandas


class Table(Protocol):
    """A data frame, of whatever library."""

    @property
    def columns(self) -> Any:
        """Its columns, or their names."""


Features = ArrayLike | Table
"""What a list of candidates may be: a matrix, or a data frame."""

_SHOWN = 8
"""How many columns an error lists."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A data frame of c columns.

    Attributes:
        names: c names.
        columns: c columns of one length.
        numbered: whether the names are but the numbers of the columns, from 0 on.

    Raises:
        InvalidRequestError: a name stands twice.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    numbered: bool = False

    def __post_init__(self) -> None:
        """Checks the names."""
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise InvalidRequestError("features", f"columns stand twice: {', '.join(twice)}")

    def __len__(self) -> int:
        """How many rows it has."""
        return length(self.columns[0]) if self.columns else 0

    def names_for(self, feature_names: Sequence[str]) -> tuple[str, ...]:
        """The names by which a model tells the columns; none: it takes them as a matrix.

        A model that was trained on a frame with numbered columns has numbers for names, and in
        an order of its own if these columns were chosen from others.

        Args:
            feature_names: the model's; empty if it has none.
        """
        return self.names if not self.numbered or named_by_numbers(feature_names) else ()

    def rows(
        self, feature_names: Sequence[str], categories: Mapping[str, Categories]
    ) -> NDArray[np.float32]:
        """The frame as a model reads it, its columns in the frame's own order.

        Numbers are what the model takes: in a categorical feature codes, as XGBoost
        has it. Labels are categories, and become their codes.

        Args:
            feature_names: the model's; empty if it has none.
            categories: by name, those of its features whose categories are known.

        Returns:
            float32 [n, c].

        Raises:
            InvalidRequestError: a column is no feature of the model, or can't be
                read as that feature without a guess; names it.
        """
        by_name = bool(self.names_for(feature_names))
        if by_name:
            self._refuse_unknown(feature_names)
        rows = np.empty((len(self), len(self.columns)), np.float32)
        for position, (name, column) in enumerate(zip(self.names, self.columns, strict=True)):
            known = categories.get(name) if by_name else None
            rows[:, position] = feature_values(f"features, column {name!r}", column, known)
        return rows

    def labels(self) -> list[str]:
        """The names of the columns that hold labels."""
        return [
            name
            for name, column in zip(self.names, self.columns, strict=True)
            if isinstance(column, Labels) and not all_missing(column)
        ]

    def _refuse_unknown(self, feature_names: Sequence[str]) -> None:
        if not feature_names:
            raise InvalidRequestError(
                "features",
                "the model's features have no names to tell the frame's columns by; pass a matrix "
                "of them in the model's order",
            )
        known = set(feature_names)
        unknown = [name for name in self.names if name not in known]
        if unknown:
            listed = ", ".join(_with_suggestion(name, feature_names) for name in unknown[:_SHOWN])
            more = ", ..." if len(unknown) > _SHOWN else ""
            raise InvalidRequestError(
                "features",
                f"the model has no feature {listed}{more}; pass the columns that it has, and no "
                "others",
            )


def read_frame(features: object) -> Frame | None:
    """Reads a data frame.

    Args:
        features: anything.

    Returns:
        None if it has no named columns: a matrix, or what NumPy may make one of.

    Raises:
        InvalidRequestError: it has named columns, but they can't be read; says
            what to do.
    """
    if isinstance(features, np.ndarray):
        if features.dtype.names:
            raise _unreadable(features)
        return None
    if isinstance(features, (list, tuple)):
        return None
    if hasattr(features, "iloc") and hasattr(features, "columns"):
        if hasattr(features, "compute"):  # Dask's, which are not there yet
            raise _unreadable(features)
        names, columns, numbered = read_pandas(features)
        return Frame(tuple(names), tuple(columns), numbered)
    if hasattr(features, "iloc"):
        return None  # a single column
    if hasattr(features, "__arrow_c_stream__") or hasattr(features, "__arrow_c_array__"):
        table = read_arrow(features)
        return table and Frame(tuple(table[0]), tuple(table[1]))
    # `collect` first: a frame that is not there yet may have to think about its columns.
    signs = ("collect", "columns", "column_names", "__dataframe__")
    if isinstance(features, Mapping) or any(hasattr(features, sign) for sign in signs):
        raise _unreadable(features)
    return None


def one_candidate(values: Any) -> Features:
    """One candidate's features as a list of one; a row of a pandas frame keeps its names.

    Args:
        values: [F]; or a Series, as `frame.iloc[3]` is.

    Raises:
        InvalidRequestError: they are not real numbers, or beyond float32.
    """
    if hasattr(values, "iloc") and hasattr(values, "to_frame"):
        # One dtype for each column again: a row of several has objects.
        return cast(Table, values.to_frame().T.infer_objects())
    return as_float32("features", values)[None]


def _unreadable(features: object) -> InvalidRequestError:
    kind = type(features)
    return InvalidRequestError(
        "features",
        f"a {kind.__module__.partition('.')[0]} {kind.__name__} has names for its columns, which "
        "can't be read: make it a frame of pandas, polars or pyarrow, or a matrix in the model's "
        "order",
    )


def named_by_numbers(feature_names: Sequence[str]) -> bool:
    """Whether a model has numbers for names, so that a frame's numbered columns may be these."""
    return any(name.isdecimal() for name in feature_names)


def feature_values(place: str, column: Column, known: Categories | None) -> NDArray[np.float32]:
    """A frame's column as a model reads it: numbers, or codes of categories.

    Args:
        place: what to call the column in an error.
        column: n numbers or labels.
        known: the feature's categories; None: the model knows none.

    Returns:
        float32 [n]; NaN is missing.

    Raises:
        InvalidRequestError: it can't be read as that feature without a guess.
    """
    if isinstance(column, Labels):
        if all_missing(column):  # of whatever type a library makes it
            return np.full(length(column), np.nan, np.float32)
        if known is None:
            raise InvalidRequestError(
                place,
                "expected numbers, got text or categories, and the model knows none of this "
                "feature: it is a number, or takes codes (ranker export --categories tells a model "
                "what they stand for)",
            )
        return known.codes(place, column.dictionary, column.indices)
    if known is not None and known.integers and not all_missing(column):
        raise InvalidRequestError(
            place,
            "this feature's categories are integers, so that numbers may be categories or their "
            "codes: make the column categorical or text if they are categories, or pass a matrix "
            "if they are codes",
        )
    return as_float32(place, column)


def _with_suggestion(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"{name!r} (did you mean {close[0]!r}?)" if close else repr(name)
