"""What the guard has taken the traffic from, until the configuration says something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ranker.repository.traffic import given_to_stable
from ranker.repository.wanted import WantedRoute


@dataclass(frozen=True)
class _Hold:
    """Attributes: entry: what the configuration said of the model; reasons: by label."""

    entry: str
    reasons: Mapping[str, str]


class Holds:
    """Labels that have lost their share of the traffic to `stable`.

    The configuration is not touched; a hold ends when what it says of the model changes.
    """

    def __init__(self) -> None:
        self._holds: dict[str, _Hold] = {}

    def add(self, name: str, entry: str, labels: Iterable[str], reason: str) -> bool:
        """Takes the traffic from labels of a model.

        Args:
            name: of the model.
            entry: what the configuration says of it now.
            labels: which.
            reason: why.

        Returns:
            Whether there was one among them that was not held before.
        """
        hold = self._holds.get(name)
        before = hold.reasons if hold is not None and hold.entry == entry else {}
        reasons = {**before, **dict.fromkeys(labels, reason)}
        self._holds[name] = _Hold(entry, reasons)
        return reasons.keys() != before.keys()

    def keep(self, routes: Mapping[str, WantedRoute]) -> list[str]:
        """Ends the holds of models of which these routes' configuration says something else.

        Returns:
            The models' names.
        """
        ended = [
            name
            for name, hold in self._holds.items()
            if name not in routes or routes[name].entry != hold.entry
        ]
        for name in ended:
            del self._holds[name]
        return ended

    def apply(self, routes: Mapping[str, WantedRoute]) -> dict[str, WantedRoute]:
        """The routes, with the traffic as it is to be."""
        return {name: self._applied(name, route) for name, route in routes.items()}

    def _applied(self, name: str, route: WantedRoute) -> WantedRoute:
        hold = self._holds.get(name)
        if hold is None or hold.entry != route.entry:
            return route
        traffic = route.traffic
        for label in hold.reasons:
            traffic = given_to_stable(traffic, label)
        return replace(route, traffic=traffic, held=hold.reasons)
