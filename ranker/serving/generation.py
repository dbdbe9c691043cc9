"""A generation: the models that a server serves at a time, and who is ranked by which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ranker.errors import ModelError, NotFoundError
from ranker.serving.served_model import ServedModel


class Arm(NamedTuple):
    """A model that ranks, and the label that it was chosen by; empty: none."""

    served: ServedModel
    label: str = ""


@dataclass(frozen=True)
class Route:
    """How the requests for one name find their version.

    Attributes:
        default: the version for requests that name none, if the traffic is not split.
        labels: the version that each label names.
        traffic: the percentage of each label; empty: it is not split.
        split: gives a unit the label that ranks for it; None: the traffic is not split.
        mark: tells the split from others, in the metrics.
        held: labels whose share the guard has moved to `stable`, and why.
        shadow: the version that scores lists too which the others have ranked; empty: none.
        shadow_share: of how many of them, from 0 to 1.
        in_sample: whether a unit's lists are among them; all are, if it is None.
    """

    default: str
    labels: Mapping[str, str] = field(default_factory=dict)
    traffic: Mapping[str, float] = field(default_factory=dict)
    split: Callable[[str], str] | None = None
    mark: float = 0.0
    held: Mapping[str, str] = field(default_factory=dict)
    shadow: str = ""
    shadow_share: float = 0.0
    in_sample: Callable[[str], bool] | None = None


class Generation:
    """Finds the model that a request asks for.

    Args:
        models: at least one; the first one's name is the default.
        number: how many sets of models were served before, and this one.
        routes: by name; a name without one has its first model as the default.

    Attributes:
        models: likewise.
        number: likewise.
        routes: of every name.
        splits: for each name whose requests without a version are split, the function that
            gives a unit its label; the empty name is the default model.
        count: how many models there are.

    Raises:
        ModelError: no models, or two with the same name and version, or a label or a shadow that
            is none of them.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        number: int = 1,
        routes: Mapping[str, Route] | None = None,
    ) -> None:
        if not models:
            raise ModelError("no model to serve")
        self.models = tuple(models)
        self.number = number
        self.count = len(self.models)
        self._arms: dict[tuple[str, str], Arm] = {}
        for model in models:
            if (model.name, model.version) in self._arms:
                raise ModelError(
                    f"two models are {model}: export one of them with another --name or --version"
                )
            self._arms[model.name, model.version] = Arm(model)
        first = {model.name: Route(model.version) for model in reversed(models)}
        self.routes: dict[str, Route] = first | dict(routes or {})
        self.splits: dict[str, Callable[[str], str]] = {}
        for name, route in self.routes.items():
            self._add_route(name, route)
        self._add_default(models[0].name)

    def start(self) -> None:
        """It is served from now on: units are counted for its splits."""
        for served in self.models:
            served.metrics.split_served(self.routes[served.name].mark)

    def find(self, name: str, version: str, unit: str | None) -> Arm:
        """The model that ranks, and its label.

        Args:
            name: of the model; empty: the default.
            version: one, or `@` and a label; empty: what the unit has.
            unit: for whom is ranked; empty: it is drawn at random; None: for nobody, who gets
                the default.

        Raises:
            NotFoundError: the server has no such model, or not in that version.
        """
        try:
            if not version and unit is not None and name in self.splits:
                version = "@" + self.splits[name](unit)
            return self._arms[name, version]
        except KeyError:
            held = ", ".join(map(str, self.models))
            wanted = f"{name or '(default)'}@{version.removeprefix('@')}" if version else name
            raise NotFoundError(f"no model {wanted}; this server holds {held}") from None

    def share(self, served: ServedModel) -> float:
        """Of the requests for its name without a version, the percentage that a model ranks."""
        route = self.routes[served.name]
        if route.split is None:
            return 100.0 if route.default == served.version else 0.0
        total = sum(route.traffic.values())
        own = (
            share for label, share in route.traffic.items() if route.labels[label] == served.version
        )
        return 100.0 * sum(own) / total

    def shadow(self, served: ServedModel) -> ServedModel | None:
        """The shadow of a model: the one that scores lists too which the model has ranked."""
        version = self.routes[served.name].shadow
        return (
            self._arms[served.name, version].served if version not in ("", served.version) else None
        )

    def shadow_share(self, served: ServedModel) -> float:
        """Of the lists that others of its name rank, the percentage that a model scores too."""
        route = self.routes[served.name]
        return 100.0 * route.shadow_share if route.shadow == served.version else 0.0

    def labels(self, served: ServedModel) -> list[str]:
        """The labels of a model."""
        labels = self.routes[served.name].labels
        return [label for label, version in labels.items() if version == served.version]

    def held(self, served: ServedModel) -> str:
        """Why the guard has moved a model's share of the traffic away; empty: it has not."""
        held = self.routes[served.name].held
        return "; ".join(held[label] for label in self.labels(served) if label in held)

    def _add_route(self, name: str, route: Route) -> None:
        named = {f"@{label}": (version, label) for label, version in route.labels.items()}
        if route.shadow and (name, route.shadow) not in self._arms:
            raise ModelError(f"{name}: the shadow is {route.shadow}, which is not among them")
        for text, (version, label) in {"": (route.default, ""), **named}.items():
            if (name, version) not in self._arms:
                what = f"label {label!r}" if label else "the default"
                raise ModelError(f"{name}: {what} is version {version}, which is not among them")
            self._arms[name, text] = Arm(self._arms[name, version].served, label)
        if route.split is not None:
            self.splits[name] = route.split

    def _add_default(self, name: str) -> None:
        """Has requests without a name find what requests for this one find."""
        for (other, version), arm in list(self._arms.items()):
            if other == name:
                self._arms["", version] = arm
        if name in self.splits:
            self.splits[""] = self.splits[name]
