"""What a server is to serve: files, what they are called, and who is ranked by which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from ranker.repository.rollout_limits import RolloutLimits

MOST_VERSIONS = 32
"""Versions, of all models together, that a server with a configuration has room for in its metrics:
those that it serves, and while it switches also those that it is about to serve."""


@dataclass(frozen=True)
class WantedModel:
    """A model's file, on this machine.

    Attributes:
        path: where it is.
        name: what it is called on the wire; empty: as the file says.
        version: likewise.
        sha256: of its bytes, in hexadecimal: a file of the same name and version may be another
            one by now, which is not served in its place; empty: whatever is there.
    """

    path: str
    name: str = ""
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class WantedRoute:
    """How the requests for one name find their version.

    Attributes:
        default: the version for requests that name none, if the traffic is not split.
        labels: the version that each label names.
        traffic: the percentage of each label that ranks for requests without a version.
        salt: of the split; see `ranker.repository.traffic`.
        guard: what versions may do before their share goes back to stable; None: anything.
        entry: all that the configuration says of the model, as one text.
        held: labels whose share the guard has moved to `stable`, and why.
        shadow: the version that scores lists too which the others have ranked; empty: none.
        shadow_share: of how many of them, from 0 to 1.
    """

    default: str
    labels: Mapping[str, str] = field(default_factory=dict)
    traffic: Mapping[str, float] = field(default_factory=dict)
    salt: str = ""
    guard: RolloutLimits | None = None
    entry: str = ""
    held: Mapping[str, str] = field(default_factory=dict)
    shadow: str = ""
    shadow_share: float = 0.0

    def names(self, version: str) -> list[str]:
        """The labels of a version."""
        return [label for label, named in self.labels.items() if named == version]

    def share(self, version: str) -> float:
        """What a version ranks of the requests that name none, from 0 to 1."""
        if not self.traffic:
            return float(version == self.default)
        own = sum(self.traffic.get(label, 0.0) for label in self.names(version))
        return own / sum(self.traffic.values())

    def split_mark(self) -> float:
        """A number that tells the split of the traffic from others; 0 if it is not split."""
        if not self.traffic:
            return 0.0
        arms = [
            (label, self.labels[label], share) for label, share in self.traffic.items() if share
        ]
        digest = hashlib.sha256(json.dumps([self.salt, arms]).encode()).digest()
        return float(int.from_bytes(digest[:6], "big") + 1)  # a double holds it exactly

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` wrote, also after JSON."""
        guard = facts.get("guard")
        return cls(**{**facts, "guard": RolloutLimits(**guard) if guard else None})


@dataclass(frozen=True)
class Wanted:
    """A set of models, the default first.

    Attributes:
        models: which.
        routes: by name; names without one have their first model as the default.
        failure: why a part of what was asked for stays as it was; empty: nothing does.
    """

    models: tuple[WantedModel, ...]
    routes: Mapping[str, WantedRoute] = field(default_factory=dict)
    failure: str = field(default="", compare=False)

    def to_facts(self) -> dict[str, Any]:
        """As another process takes it; `from_facts` reads it."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Reads what `to_facts` wrote, also after JSON."""
        return cls(
            tuple(WantedModel(**model) for model in facts["models"]),
            {name: WantedRoute.from_facts(route) for name, route in facts["routes"].items()},
            facts["failure"],
        )
