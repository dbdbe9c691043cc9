"""Leaves features out of the requests that are logged.

A model that lacks one of them may have it under another name. So of its lists no feature is logged,
and a server whose models all lack one does not start: what must not be logged never is, whatever is
misspelt or renamed.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from ranker.errors import Code, RankerError
from ranker.v1 import ranking_pb2 as pb

logger = logging.getLogger(__name__)

_FLOAT32 = np.dtype("<f4")

_MOST_TOLD = 20
"""Names of a model that has more features than a line has room for."""


class NamelessError(Exception):
    """A model does not name its features: nobody knows what is to be left out."""


class UnknownFeatureError(RankerError):
    """A feature is to be left out that no model has; says which, and what was meant perhaps."""

    code = Code.INVALID_ARGUMENT


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

    def lacking(self, feature_names: Collection[str]) -> list[str]:
        """Those that a model does not have, by its feature names."""
        return sorted(self._names.difference(feature_names))

    def check(self, models: Mapping[str, Sequence[str]]) -> None:
        """Raises UnknownFeatureError if none of some models has one of them.

        Args:
            models: the feature names of each, by what it is called.
        """
        known = list(dict.fromkeys(name for names in models.values() for name in names))
        for name in self.lacking(known):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UnknownFeatureError(
                f"--log-exclude-feature: no feature {name!r}{hint} in {', '.join(models)}, which "
                f"has {', '.join(known[:_MOST_TOLD]) or 'no names of features'}"
            )

    def warn(self, model: str, feature_names: Sequence[str]) -> None:
        """Says in the log if a model lacks some of them, so that none of its features are logged.

        Args:
            model: what it is called.
            feature_names: its own.
        """
        lacking = self.lacking(feature_names)
        if lacking:
            logger.error(
                "%s has no feature %s, which --log-exclude-feature names, and may have it under "
                "another name: its lists are logged without any features",
                model,
                " or ".join(map(repr, lacking)),
            )

    def applied(self, data: bytes, feature_names: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
        """A request without the features' values: they are NaN, which is missing.

        Of a model that lacks one of them it is without all features' values.

        Args:
            data: an encoded RankRequest that has been served.
            feature_names: the model's, in its order.

        Returns:
            The request, and which features' values it had and has no longer; the same bytes if
            there are none.

        Raises:
            NamelessError: the model's features have no names.
        """
        if not feature_names:
            raise NamelessError
        left_out = feature_names if self.lacking(feature_names) else self._names
        request = pb.RankRequest.FromString(data)
        in_context = request.context.feature_names
        columns = list(request.feature_names)
        if not columns:
            columns = [name for name in feature_names if name not in in_context]
        ours = [at for at, name in enumerate(columns) if name in left_out]
        shared = [at for at, name in enumerate(in_context) if name in left_out]
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
