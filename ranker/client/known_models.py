"""What the client knows of the server's models: each version's features and categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ranker.categories import Categories
from ranker.v1 import ranking_pb2

_MOST = 64
"""Versions that are remembered; the one that was asked for first is forgotten first."""


def is_open(model: str, version: str) -> bool:
    """Whether a request that asks for these may be answered by one version now, by another then.

    A label may move, and a split gives each unit its own.
    """
    return not model or not version or version.startswith("@")


@dataclass(frozen=True)
class KnownModel:
    """A version of a model, as the server describes it.

    Attributes:
        name: the model's name.
        version: its version.
        feature_names: in the model's order; empty if it has none.
        categories: of its categorical features whose categories are known.
    """

    name: str
    version: str
    feature_names: tuple[str, ...]
    categories: Mapping[str, Categories]

    @classmethod
    def of(cls, model: ranking_pb2.Model) -> KnownModel:
        """Reads the server's description."""
        names = tuple(model.feature_names)
        categories = {
            names[each.feature]: Categories(list(each.texts) or list(each.integers))
            for each in model.categories
            if each.feature < len(names)
        }
        return cls(model.name, model.version, names, categories)

    def reads_as(self, other: KnownModel) -> bool:
        """Whether any request is written for both alike: their features and categories are."""
        return self.feature_names == other.feature_names and self._digests == other._digests

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {name: categories.digest for name, categories in self.categories.items()}


class KnownModels:
    """The versions that the server has described. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], KnownModel] = {}
        self._last: dict[tuple[str, str], tuple[str, str]] = {}

    def find(self, model: str, version: str) -> KnownModel | None:
        """What is known of a version, or of the one that answers where either is left open."""
        asked = model, version
        return self._known.get(self._last.get(asked, asked))

    def add(self, model: str, version: str, described: ranking_pb2.Model) -> KnownModel:
        """Notes what the server said when it was asked for a model, a version, or neither."""
        known = KnownModel.of(described)
        self._known[known.name, known.version] = known
        self.answers(model, version, known)
        if len(self._known) > _MOST:
            self._known.pop(next(iter(self._known)), None)
        return known

    def answers(self, model: str, version: str, known: KnownModel) -> None:
        """Notes which version answers, if what was asked for left that open."""
        if is_open(model, version):
            self._last[model, version] = known.name, known.version
