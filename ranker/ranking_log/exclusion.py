"""Leaves features out of the requests that are logged."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

import numpy as np

from ranker.v1 import ranking_pb2 as pb

logger = logging.getLogger(__name__)

_FLOAT32 = np.dtype("<f4")


class NamelessError(Exception):
    """Neither a request nor its model names the columns: nobody knows what is to be left out."""


class Exclusion:
    """Some features that are not to be logged.

    Args:
        names: what they are called.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._names)

    def unknown(self, models: Iterable[Sequence[str]]) -> list[str]:
        """Those that none of some models have, by their feature names: perhaps misspelt."""
        return sorted(self._names.difference(*models))

    def applied(self, data: bytes, feature_names: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
        """A request without the features' values: they are NaN, which is missing.

        Args:
            data: an encoded RankRequest that has been served.
            feature_names: the model's, in its order.

        Returns:
            The request, and which of the features it had; the same bytes if it had none.

        Raises:
            NamelessError: the columns have no names.
        """
        request = pb.RankRequest.FromString(data)
        in_context = request.context.feature_names
        columns = list(request.feature_names)
        if not columns:
            if not feature_names:
                raise NamelessError
            columns = [name for name in feature_names if name not in in_context]
        ours = [at for at, name in enumerate(columns) if name in self._names]
        shared = [at for at, name in enumerate(in_context) if name in self._names]
        if not (ours or shared):
            return data, ()
        matrix = request.candidates
        values = np.frombuffer(matrix.data, _FLOAT32).reshape(matrix.rows, matrix.columns).copy()
        values[:, ours] = np.nan
        matrix.data = values.tobytes()
        for at in shared:
            request.context.values[at] = math.nan
        names = [*(columns[at] for at in ours), *(in_context[at] for at in shared)]
        return request.SerializeToString(), tuple(names)


def without_explanations(data: bytes) -> bytes:
    """An encoded RankResponse without its explanations: they tell of every feature."""
    response = pb.RankResponse.FromString(data)
    if not response.explanations:
        return data
    response.ClearField("explanations")
    response.ClearField("explained_feature_names")
    return response.SerializeToString()
