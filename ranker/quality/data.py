"""Queries with candidates and labels, to evaluate rankers on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.errors import InvalidRequestError
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
        partly_absent: features that some queries lack, or whose values were left out of a log.

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
    sparse: bool = False

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
        features: ArrayLike,
        labels: ArrayLike,
        query_ids: ArrayLike,
        *,
        feature_names: Sequence[str] = (),
        weights: ArrayLike | None = None,
        propensities: ArrayLike | None = None,
        slices: Mapping[str, ArrayLike] | None = None,
        source: str = "",
        sparse: bool = False,
    ) -> RankingData:
        """Makes data of arrays with an entry per candidate.

        Args:
            features: [n, c].
            labels: [n].
            query_ids: [n]; which query each candidate belongs to. Queries are
                put in the order in which they first occur, each with its
                candidates in the order given.
            feature_names: c names, or none.
            weights: [n]; how much the candidate's query counts.
            propensities: [n]; see `RankingData`.
            slices: [n] each; see `RankingData`.
            source: see `RankingData`.
            sparse: see `RankingData`.

        Raises:
            InvalidRequestError: the arrays don't fit together, or a weight or
                slice differs within a query; names the query.
        """
        ids = np.asarray(query_ids)
        order, sizes, begins = _grouped(ids)
        names = ids[order][begins]

        def per_row(name: str, values: ArrayLike) -> NDArray[Any]:
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
            features=per_row("features", np.asarray(features, np.float32)),
            labels=per_row("labels", np.asarray(labels, np.float32)),
            sizes=sizes,
            queries=names,
            feature_names=tuple(feature_names),
            weights=np.empty(0)
            if weights is None
            else per_query("weights", np.asarray(weights, np.float64)),
            propensities=None
            if propensities is None
            else per_row("propensities", np.asarray(propensities, np.float64)),
            slices={name: per_query(name, values) for name, values in (slices or {}).items()},
            source=source,
            sparse=sparse,
        )

    def clipped(self, min_propensity: float) -> RankingData:
        """The data with propensities of at least so much."""
        if self.propensities is None:
            return self
        return replace(self, propensities=np.maximum(self.propensities, min_propensity))

    def absent(self, model: Model) -> list[str]:
        """The model's features that the data hasn't got; they count as missing."""
        if not self.feature_names:
            return []
        return [name for name in model.feature_names if name not in set(self.feature_names)]

    def rows(self, model: Model, part: slice = _ALL) -> NDArray[np.float32]:
        """Candidates as the model expects them.

        Args:
            model: the model.
            part: which candidates.

        Returns:
            float32 [candidates, F].

        Raises:
            InvalidRequestError: the columns are not the model's.
        """
        if not self.feature_names:
            return self._padded(model.features.num_features, part)
        if not model.feature_names:
            raise InvalidRequestError(
                "feature_names",
                f"the features of model {model.name!r} have no names, those of the data do; "
                "export the model with names, or give libsvm data, which has none",
            )
        if self.feature_names == model.feature_names:
            return np.ascontiguousarray(self.features[part])
        of_model = set(model.feature_names)
        columns = [i for i, name in enumerate(self.feature_names) if name in of_model]
        if not columns:
            raise InvalidRequestError(
                "feature_names",
                f"no column is a feature of model {model.name!r}: {', '.join(model.feature_names)}",
            )
        known = [self.feature_names[column] for column in columns]
        rows = np.ascontiguousarray(self.features[part, columns])
        plan = model.features.plan(len(known), known)
        return rows if plan is None else plan.rows(rows, np.empty(0, np.float32))

    def _padded(self, num_features: int, part: slice) -> NDArray[np.float32]:
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


def _grouped(ids: NDArray[Any]) -> tuple[Any, NDArray[np.int64], NDArray[np.int64]]:
    """The order that puts each query's candidates together, queries' sizes and begins."""
    if ids.ndim != 1:
        raise InvalidRequestError("query_ids", "expected one per candidate")
    begins = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
    order: Any = slice(None)
    if len(np.unique(ids[begins])) != len(begins):
        _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        order = np.argsort(first[inverse], kind="stable")
        ids = ids[order]
        begins = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    return order, np.diff(begins, append=len(ids)).astype(np.int64), begins.astype(np.int64)
