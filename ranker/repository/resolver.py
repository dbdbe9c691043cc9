"""From a configuration to files on this machine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ranker.errors import ConfigError, RankerError, SourceError, SourceUnavailableError
from ranker.repository.config import Config, Latest, ModelConfig
from ranker.repository.repository import Repository, open_repository
from ranker.repository.traffic import STABLE
from ranker.repository.wanted import Wanted, WantedModel, WantedRoute

logger = logging.getLogger(__name__)


class Resolver:
    """Finds the versions that a configuration names, and has their files on this machine.

    What it has found once it does not give up for what happens to the source later: of a version
    that is gone, or a source that refuses, it is the file that was found before. And a model that
    can't be had as it is configured now stays as it was, while others follow the configuration.

    Args:
        base: what relative sources count from: a folder, or a bucket's prefix.
        cache: the folder for what is fetched; None: see `open_repository`.
    """

    def __init__(self, base: str, cache: Path | None) -> None:
        self._base = base
        self._cache = cache
        self._repositories: dict[str, Repository] = {}
        # As of the last time: models by their names; versions by model, source and version; and the
        # versions of a source, as of the last time that it told them.
        self._models: dict[str, tuple[list[WantedModel], WantedRoute]] = {}
        self._versions: dict[tuple[str, str, str], WantedModel] = {}
        self._listings: dict[str, Sequence[str]] = {}

    def resolve(self, config: Config) -> Wanted:
        """What the configuration wants to be served, as its sources are now.

        Returns:
            It; its `failure` says what could not be had.

        Raises:
            RankerError: none of the models can be had, or one of them at the first time.
        """
        before, first = self._models, not self._models
        failures: list[str] = []
        found: dict[str, tuple[list[WantedModel], WantedRoute]] = {}
        for name, model in config.models.items():
            try:
                found[name] = self._resolve(name, model, failures)
            except RankerError as error:
                if first:
                    raise
                failures.append(error.message)
                if name in before:
                    found[name] = before[name]
        if not found:
            raise ConfigError("; ".join(failures))
        if found.keys() != config.models.keys():
            # What those that are not to be had may be to replace, under another name, stays, too.
            found = {**before, **found}
        self._models = found
        models = [model for each, _ in found.values() for model in each]
        kept = set(models)
        self._versions = {key: model for key, model in self._versions.items() if model in kept}
        routes = {name: route for name, (_, route) in found.items()}
        reasons = "; ".join(dict.fromkeys(failures))
        return Wanted(tuple(models), routes, reasons)

    def _resolve(
        self, name: str, model: ModelConfig, failures: list[str]
    ) -> tuple[list[WantedModel], WantedRoute]:
        """One model's versions, the default first, and who is ranked by which.

        Args:
            name: the model's.
            model: what is configured of it.
            failures: takes what is wrong with versions that were found before.

        Raises:
            RankerError: a source does not answer, or has not what is wanted; says which.
        """
        repository = self._repository(model.source)
        newest = model.versions.latest if isinstance(model.versions, Latest) else 0
        listed = [] if isinstance(model.versions, Latest) else list(model.versions)
        if not (newest or listed or model.labels):
            newest = 1
        try:
            there = self._listings[model.source] = _poll(repository)
        except SourceError as error:
            if not isinstance(error, SourceUnavailableError):
                self._open_anew(model.source)
            there = self._listings.get(model.source, ())
            if not self._models or (newest and not there):
                raise
            failures.append(error.message)
        if newest and not there:
            raise ConfigError(f"{name}: {model.source} has no complete version")
        if newest:
            listed = list(reversed(there[-newest:]))
        versions = list(dict.fromkeys([*listed, *model.labels.values()]))
        default = model.labels.get(STABLE) or versions[0]
        shadow = model.shadow
        shadows = [shadow.version] if shadow is not None else []
        models = [
            self._fetch(repository, name, model.source, version, failures)
            # The default first: it is what a server without labels has as the first.
            for version in dict.fromkeys([default, *versions, *shadows])
        ]
        salt = model.salt or name
        limits = model.guard.limits() if model.guard else None
        entry = model.model_dump_json(exclude_defaults=True)
        route = WantedRoute(default, model.labels, model.traffic, salt, guard=limits, entry=entry)
        if shadow is not None:
            route = replace(route, shadow=shadow.version, shadow_share=shadow.share)
        return models, route

    def _fetch(
        self, repository: Repository, name: str, source: str, version: str, failures: list[str]
    ) -> WantedModel:
        key = name, source, version
        try:
            fetched = repository.fetch(version)
        except SourceError as error:
            if key not in self._versions:
                raise
            failures.append(error.message)
        else:
            self._versions[key] = WantedModel(str(fetched.path), name, version, fetched.sha256)
        return self._versions[key]

    def _repository(self, source: str) -> Repository:
        if source not in self._repositories:
            self._repositories[source] = self._open(source)
        return self._repositories[source]

    def _open(self, source: str) -> Repository:
        stands_alone = "://" in source or source.startswith("/")
        return open_repository(source if stands_alone else f"{self._base}/{source}", self._cache)

    def _open_anew(self, source: str) -> None:
        """A file may have become a folder; if there is nothing, what it was is asked on."""
        with contextlib.suppress(SourceError):
            self._repositories[source] = self._open(source)


def _poll(repository: Repository) -> Sequence[str]:
    """The versions that there are; those that were fetched before, if the source is away."""
    try:
        return repository.poll()
    except SourceUnavailableError as error:
        before = repository.cached()
        if not before:
            raise
        logger.warning("%s; going on with the versions that were fetched before", error)
        return before
