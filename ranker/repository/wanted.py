"""What a server is to serve: files, what they are called, and who is ranked by which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class WantedModel:
    """A model's file, on this machine.

    Attributes:
        path: where it is.
        name: what it is called on the wire; empty: as the file says.
        version: likewise.
        stamp: another one says that the file is another one, though it is called the same.
    """

    path: str
    name: str = ""
    version: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class WantedRoute:
    """How the requests for one name find their version.

    Attributes:
        default: the version for requests that name none, if the traffic is not split.
        labels: the version that each label names.
        traffic: the percentage of each label that ranks for requests without a version.
        salt: of the split; see `ranker.repository.traffic`.
        shadow: the version that scores lists too which the others have ranked; empty: none.
        shadow_share: of how many of them, from 0 to 1.
    """

    default: str
    labels: Mapping[str, str] = field(default_factory=dict)
    traffic: Mapping[str, float] = field(default_factory=dict)
    salt: str = ""
    shadow: str = ""
    shadow_share: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """A set of models, the default first.

    Attributes:
        models: which.
        routes: by name; names without one have their first model as the default.
    """

    models: tuple[WantedModel, ...]
    routes: Mapping[str, WantedRoute] = field(default_factory=dict)

    def to_facts(self) -> dict[str, Any]:
        """As another process takes it; `from_facts` reads it."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Reads what `to_facts` wrote, also after JSON."""
        return cls(
            tuple(WantedModel(**model) for model in facts["models"]),
            {name: WantedRoute(**route) for name, route in facts["routes"].items()},
        )
