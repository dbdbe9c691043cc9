"""From a configuration to files on this machine."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from ranker.errors import ConfigError, SourceUnavailableError
from ranker.repository.config import Config, Latest, ModelConfig
from ranker.repository.published import Published
from ranker.repository.repository import Repository, open_repository
from ranker.repository.traffic import STABLE
from ranker.repository.wanted import Wanted, WantedModel, WantedRoute

logger = logging.getLogger(__name__)


class Resolver:
    """Finds the versions that a configuration names, and has their files on this machine.

    Args:
        base: what relative sources count from: a folder, or a bucket's prefix.
        cache: the folder for what is fetched; None: see `open_repository`.
    """

    def __init__(self, base: str, cache: Path | None) -> None:
        self._base = base
        self._cache = cache
        self._repositories: dict[str, Repository] = {}

    def resolve(self, config: Config) -> Wanted:
        """What the configuration wants to be served, as its sources are now.

        Raises:
            RankerError: a source does not answer, or has not what is wanted; says which.
        """
        models: list[WantedModel] = []
        routes: dict[str, WantedRoute] = {}
        for name, model in config.models.items():
            repository = self._repository(model.source)
            found = _poll(repository)
            if not found:
                raise ConfigError(f"{name}: {model.source} has no complete version")
            newest = found[-1]
            versions = _versions(model, found)
            default = model.labels.get(STABLE) or versions[0]
            # The default first: it is what a server without labels has as the first.
            shadow = model.shadow
            shadows = [shadow.version] if shadow is not None else []
            for version in dict.fromkeys([default, *versions, *shadows]):
                stamp = newest.stamp if version == newest.version else ""
                path = str(repository.fetch(version))
                models.append(WantedModel(path, name, version, stamp))
            salt = model.salt or name
            limits = model.guard.limits() if model.guard else None
            entry = model.model_dump_json(exclude_defaults=True)
            route = WantedRoute(
                default, model.labels, model.traffic, salt, guard=limits, entry=entry
            )
            if shadow is not None:
                route = replace(route, shadow=shadow.version, shadow_share=shadow.share)
            routes[name] = route
        return Wanted(tuple(models), routes, config.policy())

    def _repository(self, source: str) -> Repository:
        if source not in self._repositories:
            stands_alone = "://" in source or source.startswith("/")
            where = source if stands_alone else f"{self._base}/{source}"
            self._repositories[source] = open_repository(where, self._cache)
        return self._repositories[source]


def _poll(repository: Repository) -> tuple[Published, ...]:
    """The versions that there are; those that were fetched before, if the source is away."""
    try:
        return repository.poll()
    except SourceUnavailableError as error:
        before = repository.cached()
        if not before:
            raise
        logger.warning("%s; going on with the versions that were fetched before", error)
        return before


def _versions(model: ModelConfig, found: tuple[Published, ...]) -> list[str]:
    """The versions to serve, the newest first; those with a label come last."""
    if isinstance(model.versions, Latest):
        chosen = [each.version for each in reversed(found[-model.versions.latest :])]
    else:
        chosen = list(model.versions)
    if not chosen and not model.labels:
        chosen = [found[-1].version]
    return list(dict.fromkeys([*chosen, *model.labels.values()]))
