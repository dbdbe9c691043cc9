"""Queries with candidates and labels, to evaluate rankers on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.errors import InvalidRequestError
from ranker.frames import (
    Features,
    Frame,
    Labels,
    all_missing,
    as_float32,
    feature_values,
    in_use,
    is_masked,
    named_by_numbers,
    read_frame,
)
from ranker.model import Model

_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class RankingData:
    """Candidates of many queries, one query after the other.

    With n candidates of Q queries and c columns:

    Attributes:
        features: float32 [n, c]; NaN is missing.
        labels: float32 [n]; graded relevance, from 0 on.
        sizes: int64 [Q]; how many candidates each query has.
        queries: [Q]; what each query is called.
        feature_names: c names; empty: the columns are the model's, in its order.
        weights: float64 [Q]; how much each query counts.
        propensities: float64 [n], from 0 on to 1: how likely a user looked at the
            candidate, where it was shown; None: no correction for that.
        slices: [Q] for each column by whose value queries are told apart.
        source: where the data comes from, for a person to read.
        sparse: columns that are not there at the end are missing, as in libsvm's format.
        texts: columns of text or of categories, by name; in `features` they are missing.
        from_table: the columns are those of a table or a data frame, and not a matrix: a number
            in a feature whose categories are integers may be a category or its code.
        untyped: the columns are those of a CSV file: a number may be the text of a category.
        numbered: the names are but the numbers of a data frame's columns.
        partly_absent: features that some queries lack, or whose values were left out of a log.
        unverified_codes: categorical features of a log whose codes may stand for other categories
            than for the models that score them: not all files say what theirs stand for.

    Raises:
        InvalidRequestError: the arrays don't fit together, or hold what can't be.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    sizes: NDArray[np.int64]
    queries: NDArray[Any]
    feature_names: tuple[str, ...] = ()
    weights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    propensities: NDArray[np.float64] | None = None
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    source: str = ""
    partly_absent: tuple[str, ...] = ()
    unverified_codes: tuple[str, ...] = ()
    sparse: bool = False
    texts: Mapping[str, Labels] = field(default_factory=dict)
    from_table: bool = False
    untyped: bool = False
    numbered: bool = False

    def __post_init__(self) -> None:
        """Checks all of it."""
        if not len(self.weights):
            object.__setattr__(self, "weights", np.ones(len(self.sizes)))
        if self.features.ndim != 2 or len(self.features) != len(self.labels):
            raise InvalidRequestError(
                "features", f"expected a row per label, got {list(self.features.shape)}"
            )
        if not len(self.labels):
            raise InvalidRequestError("labels", "expected candidates, got none")
        if self.feature_names and len(self.feature_names) != self.features.shape[1]:
            raise InvalidRequestError(
                "feature_names", f"{len(self.feature_names)} for {self.features.shape[1]} columns"
            )
        if not (np.isfinite(self.labels) & (self.labels >= 0)).all():
            raise InvalidRequestError("labels", "expected numbers from 0 on")
        if (self.sizes < 1).any() or self.sizes.sum() != len(self.labels):
            raise InvalidRequestError(
                "sizes", f"the queries have {self.sizes.sum()} candidates, not {len(self.labels)}"
            )
        if len(self.weights) != len(self.sizes):
            raise InvalidRequestError("weights", "expected one per query")
        if not (np.isfinite(self.weights) & (self.weights >= 0)).all() or not self.weights.any():
            raise InvalidRequestError("weights", "expected numbers from 0 on, not all 0")
        if (
            self.propensities is not None
            and not ((self.propensities > 0) & (self.propensities <= 1)).all()
        ):
            raise InvalidRequestError("propensities", "expected numbers above 0, up to 1")

    @classmethod
    def from_arrays(
        cls,
        features: Features,
        labels: ArrayLike,
        query_ids: ArrayLike,
        *,
        feature_names: Sequence[str] = (),
        weights: ArrayLike | None = None,
        propensities: ArrayLike | None = None,
        slices: Mapping[str, ArrayLike] | None = None,
        source: str = "",
        sparse: bool = False,
        texts: Mapping[str, Labels] | None = None,
        from_table: bool = False,
        untyped: bool = False,
    ) -> RankingData:
        """Makes data of arrays with an entry per candidate.

        Args:
            features: [n, c]; or a data frame, whose columns are told by their names, as by
                `Model.score`.
            labels: [n].
            query_ids: [n]; which query each candidate belongs to; none is missing. Queries are
                put in the order in which they first occur, each with its
                candidates in the order given.
            feature_names: c names, or none; a data frame has its own.
            weights: [n]; how much the candidate's query counts.
            propensities: [n]; see `RankingData`.
            slices: [n] each; see `RankingData`.
            source: see `RankingData`.
            sparse: see `RankingData`.
            texts: see `RankingData`.
            from_table: see `RankingData`.
            untyped: see `RankingData`.

        Raises:
            InvalidRequestError: the arrays don't fit together, or a weight or
                slice differs within a query; names the query. Or a data frame can't be read.
        """
        texts, numbered = texts or {}, False
        frame = read_frame(features)
        if frame is not None:
            numbered = frame.numbered and not len(feature_names)
            feature_names = _names_of(frame, feature_names)
            features, texts = _unpacked(frame, feature_names)
            from_table = True
        ids = np.asarray(query_ids)
        if ids.ndim != 1:
            raise InvalidRequestError(
                "query_ids", f"expected one per candidate, got shape {list(ids.shape)}"
            )
        _refuse_no_id(query_ids, ids)
        order, sizes, begins = _grouped(ids)
        names = ids[order][begins]

        def per_row(name: str, values: ArrayLike) -> NDArray[Any]:
            if is_masked(values):
                raise InvalidRequestError(name, "expected a value each, and some are masked")
            array = np.asarray(values)
            if len(array) != len(ids):
                raise InvalidRequestError(name, f"{len(array)} values for {len(ids)} query ids")
            sorted_: NDArray[Any] = array[order]
            return sorted_

        def per_query(name: str, values: ArrayLike) -> NDArray[Any]:
            rows = per_row(name, values)
            first = rows[begins]
            same = rows == np.repeat(first, sizes)
            if rows.dtype.kind == "f":
                same |= np.isnan(rows) & np.isnan(np.repeat(first, sizes))
            if not same.all():
                query = names[np.repeat(np.arange(len(sizes)), sizes)[same.argmin()]]
                raise InvalidRequestError(name, f"differs within query {query}")
            return first

        return cls(
            features=per_row("features", as_float32("features", cast(ArrayLike, features))),
            labels=per_row("labels", labels).astype(np.float32),
            sizes=sizes,
            queries=names,
            feature_names=tuple(feature_names),
            weights=np.empty(0)
            if weights is None
            else per_query("weights", weights).astype(np.float64),
            propensities=None
            if propensities is None
            else per_row("propensities", propensities).astype(np.float64),
            slices={name: per_query(name, values) for name, values in (slices or {}).items()},
            source=source,
            sparse=sparse,
            texts={
                name: Labels(column.dictionary, per_row(name, column.indices))
                for name, column in texts.items()
            },
            from_table=from_table,
            untyped=untyped,
            numbered=numbered,
        )

    def clipped(self, min_propensity: float) -> RankingData:
        """The data with propensities of at least so much."""
        if self.propensities is None:
            return self
        return replace(self, propensities=np.maximum(self.propensities, min_propensity))

    def absent(self, model: Model) -> list[str]:
        """The model's features that the data hasn't got; they count as missing."""
        names = set(self._names_for(model))
        return [name for name in model.feature_names if name not in names] if names else []

    def rows(self, model: Model, part: slice = _ALL) -> NDArray[np.float32]:
        """Candidates as the model expects them.

        Args:
            model: the model.
            part: which candidates.

        Returns:
            float32 [candidates, F].

        Raises:
            InvalidRequestError: the columns are not the model's, or one can't be read as its
                feature without a guess.
        """
        names = self._names_for(model)
        if not names:
            return self._padded(model.features.num_features, part)
        if not model.feature_names:
            raise InvalidRequestError(
                "feature_names",
                f"the features of model {model.name!r} have no names, those of the data do; "
                "export the model with names, or give libsvm data, which has none",
            )
        of_model = set(model.feature_names)
        columns = [i for i, name in enumerate(names) if name in of_model]
        if not columns:
            raise InvalidRequestError(
                "feature_names",
                f"no column is a feature of model {model.name!r}: {', '.join(model.feature_names)}",
            )
        known = [names[column] for column in columns]
        chosen = self.features[part]
        if len(columns) < len(names):
            chosen = chosen[:, columns]
        rows = np.array(chosen) if self.texts else np.ascontiguousarray(chosen)
        for position in range(len(known)) if self.from_table else ():
            self._code(rows, position, known[position], model, part)
        plan = model.features.plan(len(known), known)
        return rows if plan is None else plan.rows(rows, np.empty(0, np.float32))

    def _names_for(self, model: Model) -> tuple[str, ...]:
        """The names by which a model tells the columns; none: by their places."""
        by_place = self.numbered and not named_by_numbers(model.feature_names)
        return () if by_place else self.feature_names

    def _code(
        self, rows: NDArray[np.float32], position: int, name: str, model: Model, part: slice
    ) -> None:
        """Writes the codes of a column's categories into the rows, or refuses to guess them."""
        place, categories = f"features, column {name!r}", model.categories.get(name)
        if name not in self.texts:
            if categories is not None and self.untyped and not all_missing(rows[:, position]):
                raise InvalidRequestError(
                    place,
                    "read from a CSV file as numbers, which may be categories or their codes: name "
                    "it in `categorical` of read_data if they are categories, or give codes in an "
                    "array or a Parquet file",
                )
            if categories is not None:
                feature_values(place, rows[:, position], categories)
            return
        column = self.texts[name]
        used, indices = in_use(column.indices[part])
        rows[:, position] = feature_values(
            place, Labels([column.dictionary[each] for each in used], indices), categories
        )

    def _padded(self, num_features: int, part: slice) -> NDArray[np.float32]:
        if self.texts:
            names = ", ".join(self.texts)
            raise InvalidRequestError(
                "features", f"expected numbers, got text or categories: {names}"
            )
        features = self.features[part]
        columns = features.shape[1]
        if columns > num_features or (columns < num_features and not self.sparse):
            raise InvalidRequestError(
                "features",
                f"expected {num_features} columns, the model's, got {columns}; of a table, columns "
                "in which something is no number are not read",
            )
        if columns == num_features:
            return np.ascontiguousarray(features)
        rows = np.full((len(features), num_features), np.nan, np.float32)
        rows[:, :columns] = features
        return rows


def _refuse_no_id(given: object, ids: NDArray[np.generic]) -> None:
    """Nobody knows whether candidates without an id are of one query, or of which."""
    missing = np.ma.getmaskarray(np.ma.asarray(given)) if is_masked(given) else _is_none(ids)
    if missing.any():
        raise InvalidRequestError(
            "query_ids",
            f"the candidate in row {int(missing.argmax())}, counted from 0, has none: "
            f"{missing.sum()} of them are missing (NaN or null)",
        )


def _is_none(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are NaN, a date that is none, None or pandas' NA."""
    if values.dtype.kind in "fcmM":
        return np.asarray(values != values)
    if values.dtype.kind != "O":
        return np.zeros(len(values), np.bool_)

    def is_none(value: object) -> bool:
        try:
            return value is None or bool(value != value)
        except TypeError:  # NA is neither equal to itself nor not
            return True

    return np.array([is_none(value) for value in values], np.bool_)


def _names_of(frame: Frame, given: Sequence[str]) -> tuple[str, ...]:
    """What a frame's columns are called."""
    names = tuple(given) or frame.names
    if len(names) != len(frame.names) or not (frame.numbered or names == frame.names):
        raise InvalidRequestError(
            "feature_names", f"the data frame has other names, {list(frame.names)}; give none"
        )
    return names


def _unpacked(frame: Frame, names: Sequence[str]) -> tuple[NDArray[np.float32], dict[str, Labels]]:
    """A frame's numbers, NaN in the columns that hold something else; and these columns."""
    count = len(frame)
    matrix = np.full((count, len(names)), np.nan, np.float32)
    texts = {}
    for position, (name, column) in enumerate(zip(names, frame.columns, strict=True)):
        if not isinstance(column, Labels):
            matrix[:, position] = as_float32(f"features, column {name!r}", column)
        elif not all_missing(column):
            texts[name] = column
    return matrix, texts


def _grouped(ids: NDArray[Any]) -> tuple[Any, NDArray[np.int64], NDArray[np.int64]]:
    """The order that puts each query's candidates together, queries' sizes and begins."""
    begins = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
    order: Any = slice(None)
    if len(np.unique(ids[begins])) != len(begins):
        _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        order = np.argsort(first[inverse], kind="stable")
        ids = ids[order]
        begins = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    return order, np.diff(begins, append=len(ids)).astype(np.int64), begins.astype(np.int64)
