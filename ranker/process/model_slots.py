"""Which of the metrics' numbered parts each version has, while versions come and go."""

from __future__ import annotations

import math
from collections.abc import Collection

from ranker.errors import ModelError
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import Name

RETIRED_AFTER = 300.0
"""Seconds after which the series of a version that is no longer served end. Until then whoever
collects metrics, once a minute say, has its last counts, and a version that comes back goes on."""


class ModelSlots:
    """Gives versions their numbers in the metrics.

    Args:
        aggregates: the metrics' file.
    """

    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates
        self._free = list(reversed(range(aggregates.layout.models)))
        self._slots: dict[Name, int] = {}
        self._left: dict[Name, float] = {}

    def require_room(self, names: Collection[Name]) -> None:
        """Checks that versions can have numbers beside those that are in use.

        Raises:
            ModelError: they can't; says what can be done.
        """
        most = self._aggregates.layout.models
        wanted, used = set(names), self._slots.keys() - self._left.keys()
        new = wanted - used
        if len(wanted) > most:
            raise ModelError(f"{len(wanted)} versions are wanted: a server has room for {most}")
        if len(used) + len(new) > most:
            raise ModelError(
                f"{len(used)} versions are served and {len(new)} of those that are wanted are new: "
                f"while it switches a server needs room for all these, and has room for {most}. "
                "Change some of them first, and the others once these are served"
            )

    def slot(self, name: Name) -> int:
        """The number of a version, a new one if it has none; there is room (`require_room`)."""
        if name not in self._slots:
            if not self._free:
                self._retire(min(self._left, key=self._left.__getitem__))
            self._slots[name] = self._free.pop()
            self._aggregates.begin_model(self._slots[name])
        self._left.pop(name, None)
        return self._slots[name]

    def leave(self, served: Collection[Name], now: float) -> None:
        """Notes which versions are served now; the others are to be retired."""
        for name in self._slots:
            if name in served:
                self._left.pop(name, None)
            else:
                self._left.setdefault(name, now)

    def retire_due(self, now: float) -> None:
        """Ends the series of versions that have not been served for long."""
        while min(self._left.values(), default=math.inf) < now - RETIRED_AFTER:
            self._retire(min(self._left, key=self._left.__getitem__))

    def _retire(self, name: Name) -> None:
        slot = self._slots.pop(name)
        del self._left[name]
        self._aggregates.clear_model(slot)
        self._free.append(slot)
