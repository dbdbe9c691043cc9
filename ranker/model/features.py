"""The feature contract: what a model's columns are called and which must be sent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Rows
from ranker.errors import InvalidRequestError, ModelError

_PLANS = 256
_PLANNED_COLUMNS = 2**18
"""How many name lists a contract remembers, and of how many names in all, at some 16 bytes each;
a service uses a handful."""


@dataclass(frozen=True, eq=False)
class ColumnPlan:
    """Where the columns of a request go in the model's rows.

    Attributes:
        candidate_columns: intp [c]; the model's column of each column of the candidates.
        context_columns: intp [v]; the model's column of each value of the context.
        num_features: F.
        complete: no column of the model is absent.
    """

    candidate_columns: NDArray[np.intp]
    context_columns: NDArray[np.intp]
    num_features: int
    complete: bool

    def rows(self, candidates: Rows, context: NDArray[np.float32]) -> Rows:
        """Puts candidates and context where the model expects them; what is absent is NaN.

        Args:
            candidates: float32 [n, c].
            context: float32 [v].

        Returns:
            A new float32 [n, F].
        """
        shape = (len(candidates), self.num_features)
        rows = np.empty(shape, np.float32) if self.complete else np.full(shape, np.nan, np.float32)
        rows[:, self.candidate_columns] = candidates
        rows[:, self.context_columns] = context
        return rows


class FeatureContract:
    """Turns named columns, in any order, into the rows that a model expects.

    Args:
        num_features: the number of the model's columns, F.
        names: their names, in the model's order; empty if it has none, and
            then requests can't name columns either.
        required: the names that every request must send. Any other may be
            absent, which is missing (NaN).

    Raises:
        ModelError: names repeat, don't number F, or lack a required one.
    """

    def __init__(
        self, num_features: int, names: Sequence[str] = (), required: Sequence[str] = ()
    ) -> None:
        if names and len(names) != num_features:
            raise ModelError(f"feature_names: {len(names)} names for {num_features} features")
        self.num_features = num_features
        self.names = tuple(names)
        self.required = tuple(required)
        self._column = {name: column for column, name in enumerate(self.names)}
        if len(self._column) != len(self.names):
            raise ModelError("feature_names: a name stands twice")
        for name in self.required:
            if name not in self._column:
                raise ModelError(f"required_features: the model has no feature {name!r}")
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], ColumnPlan] = {}
        self._most_plans = max(1, min(_PLANS, _PLANNED_COLUMNS // max(num_features, 1)))
        self._planning = threading.Lock()

    def wrong_columns(self, columns: int) -> InvalidRequestError:
        """Why candidates with so many columns can't be ranked, of which no names are given."""
        return InvalidRequestError(
            "candidates.columns",
            f"expected {self.num_features} columns, the model's features, got {columns}",
        )

    def plan(
        self, columns: int, names: Sequence[str] = (), context_names: Sequence[str] = ()
    ) -> ColumnPlan | None:
        """Where the columns of a request and its context go.

        Args:
            columns: how many columns the candidates have, c.
            names: the c columns' names; empty: the model's columns in its order
                (without those that the context names, if there is one).
            context_names: names of the values that all candidates share.

        Returns:
            None if the columns are the model's own, in its order.

        Raises:
            InvalidRequestError: names the field that breaks the contract.
        """
        if not (names or context_names):
            if columns != self.num_features:
                raise self.wrong_columns(columns)
            return None
        # Before anything is done with the names, of which there may be a million.
        if names and columns != len(names):
            raise InvalidRequestError(
                "candidates.columns",
                f"expected {len(names)} columns, one per feature name, got {columns}",
            )
        for field, some in (("feature_names", names), ("context.feature_names", context_names)):
            if len(some) > self.num_features and self.names:
                raise InvalidRequestError(
                    field, f"{len(some)} names; the model has {self.num_features} features"
                )
        asked = tuple(names), tuple(context_names)
        plan = self._plans.get(asked) or self._make_plan(*asked)
        if columns != len(plan.candidate_columns):
            raise InvalidRequestError(
                "candidates.columns",
                f"expected {len(plan.candidate_columns)} columns, one per feature that the "
                f"context does not have, got {columns}",
            )
        return plan

    def columns_in(self, other: FeatureContract) -> NDArray[np.intp] | None:
        """Where the columns of this model are in the rows of another one that has them all.

        Returns:
            intp [num_features]; None if the rows are the same.
        """
        if self.names == other.names or not (self.names and other.names):
            return None
        return np.array([other._column[name] for name in self.names], np.intp)

    def _make_plan(self, names: tuple[str, ...], context_names: tuple[str, ...]) -> ColumnPlan:
        if not self.names:
            field = "feature_names" if names else "context.feature_names"
            raise InvalidRequestError(field, "the model's features have no names; send none")
        context = self._columns("context.feature_names", context_names, {})
        taken = dict.fromkeys(context_names, "context.feature_names")
        named = bool(names)
        if not named:
            names = tuple(name for name in self.names if name not in taken)
        candidate = self._columns("feature_names", names, taken)
        sent = {*names, *context_names}
        lacking = [name for name in self.required if name not in sent]
        if lacking:
            raise InvalidRequestError(
                "feature_names", f"the model requires features that were not sent: {lacking}"
            )
        plan = ColumnPlan(
            candidate, context, self.num_features, complete=len(sent) == self.num_features
        )
        self._remember(plan, named=named)
        return plan

    def _remember(self, plan: ColumnPlan, *, named: bool) -> None:
        """Keeps a plan for the next request with these names, in place of the one made longest ago.

        The names are the model's own: those of the request would be as many texts once more.
        """
        columns = plan.candidate_columns if named else ()
        names = tuple(self.names[column] for column in columns)
        context_names = tuple(self.names[column] for column in plan.context_columns)
        with self._planning:
            if len(self._plans) >= self._most_plans:
                del self._plans[next(iter(self._plans))]
            self._plans[names, context_names] = plan

    def _columns(self, field: str, names: Sequence[str], taken: dict[str, str]) -> NDArray[np.intp]:
        seen = dict(taken)
        for position, name in enumerate(names):
            if name not in self._column:
                raise InvalidRequestError(
                    f"{field}[{position}]", f"the model has no feature {name!r}"
                )
            if name in seen:
                raise InvalidRequestError(
                    f"{field}[{position}]", f"{name!r} was already sent in {seen[name]}"
                )
            seen[name] = field
        return np.array([self._column[name] for name in names], np.intp)
