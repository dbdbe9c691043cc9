"""Says in the log when a feature is missing everywhere, constant, or outside all thresholds."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ranker.metrics.drift import ModelDrift

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often the features are looked at."""

_MOST_NAMED = 20
"""Features in one line."""


class DriftWatch:
    """Names each such feature once, until it is as others are again.

    Nothing is said of a model that is no longer served: its features were not put right.
    """

    def __init__(self) -> None:
        self._found: set[tuple[str, str, str]] = set()

    def look(self, models: Iterable[ModelDrift]) -> None:
        """Takes how the features of all models are now."""
        found, served = set(), set()
        for model in models:
            name = f"{model.model}@{model.version}"
            served.add(name)
            fresh = []
            for feature in model.features:
                if feature.finding:
                    mark = (name, feature.name, feature.finding)
                    found.add(mark)
                    if mark not in self._found:
                        fresh.append(f"{feature.name!r} is {feature.finding}")
            if fresh:
                more = len(fresh) - _MOST_NAMED
                rest = f", and so on: {more} more" if more > 0 else ""
                unlike = (
                    "unlike in the training data" if model.reference else "in all lists counted"
                )
                listed = ", ".join(fresh[:_MOST_NAMED])
                logger.warning("%s, features, %s: %s%s", name, unlike, listed, rest)
        for name in sorted({name for name, _, _ in self._found - found} & served):
            gone = sorted(
                {f"{feature!r}" for which, feature, _ in self._found - found if which == name}
            )
            logger.info("%s: no longer so: %s", name, ", ".join(gone[:_MOST_NAMED]))
        self._found = found
