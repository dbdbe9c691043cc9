"""The candidates of a logged list as a model expects them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.model.features import FeatureContract
from ranker.ranking_log.reader import LoggedList

_FLOAT32 = np.dtype("<f4")

_LISTS_OF_NAMES = 1024


def candidates(logged: LoggedList) -> NDArray[np.float32]:
    """The candidates as they were sent: float32 [n, columns]."""
    matrix = logged.request.candidates
    return np.frombuffer(matrix.data, _FLOAT32).reshape(matrix.rows, matrix.columns)


def context(logged: LoggedList) -> NDArray[np.float32]:
    """What all candidates share: float32, a value per name of the request's context."""
    return np.array(logged.request.context.values, np.float32)


def rows_as_served(features: FeatureContract, logged: LoggedList) -> NDArray[np.float32]:
    """The rows that the model scored which ranked the list: float32 [n, F].

    Raises:
        InvalidRequestError: it is another model's list.
    """
    request = logged.request
    plan = features.plan(
        request.candidates.columns, request.feature_names, request.context.feature_names
    )
    sent = candidates(logged)
    return sent if plan is None else plan.rows(sent, context(logged))


class NamedRows:
    """Rows for a model that did not rank the lists: its features are taken by their names.

    Args:
        names: its features'; empty: they have no names.
        num_features: F, how many there are.

    Attributes:
        absent: its features that some list did not have, or that were left out of the log; they
            were missing there.
        found: its features that some list had.
    """

    def __init__(self, names: Sequence[str], num_features: int) -> None:
        self._names = tuple(names)
        self._num_features = num_features
        self.absent: set[str] = set()
        self.found: set[str] = set()
        self._places = lru_cache(_LISTS_OF_NAMES)(self._find)

    def rows(self, logged: LoggedList) -> NDArray[np.float32]:
        """The candidates: float32 [n, F].

        Raises:
            InvalidRequestError: either has no names, and they differ in their columns.
        """
        sent, columns = candidates(logged), tuple(logged.columns)
        self.absent.update(set(logged.record.excluded_features).intersection(self._names))
        if not (self._names and columns):
            if sent.shape[1] != self._num_features or logged.request.context.values:
                raise InvalidRequestError(
                    "candidates",
                    f"{logged}: its {sent.shape[1]} columns can't be matched with the model's "
                    f"{self._num_features} features, since one of them has no names",
                )
            return sent
        shared = tuple(logged.request.context.feature_names)
        ours, theirs, ours_shared, theirs_shared = self._places(columns, shared)
        rows = np.full((len(sent), self._num_features), np.nan, np.float32)
        rows[:, ours] = sent[:, theirs]
        rows[:, ours_shared] = context(logged)[theirs_shared]
        return rows

    def _find(
        self, columns: tuple[str, ...], shared: tuple[str, ...]
    ) -> tuple[list[int], list[int], list[int], list[int]]:
        """The model's columns that are sent, and where they are; of candidates, and of contexts."""
        self.absent.update(set(self._names).difference(columns, shared))
        self.found.update({*columns, *shared}.intersection(self._names))
        sent = {name: at for at, name in enumerate(columns)}
        in_context = {name: at for at, name in enumerate(shared)}
        ours = [at for at, name in enumerate(self._names) if name in sent]
        ours_shared = [at for at, name in enumerate(self._names) if name in in_context]
        return (
            ours,
            [sent[self._names[at]] for at in ours],
            ours_shared,
            [in_context[self._names[at]] for at in ours_shared],
        )
