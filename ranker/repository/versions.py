"""The versions of a model at a place: `VERSION/model.onnx`, and `VERSION/manifest.json`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from ranker.errors import SourceError, SourceUnavailableError
from ranker.repository.cache import Cache, difference
from ranker.repository.fetched import Fetched
from ranker.repository.manifest import LARGEST, MANIFEST, MODEL, Manifest, is_version
from ranker.repository.place import Place
from ranker.repository.version_order import by_age

logger = logging.getLogger(__name__)

_PIECE = 8 << 20
"""Bytes to ask for in one request, each of which is retried by itself."""


class Versions:
    """The versions at a place; see `Repository`.

    Args:
        place: where they are.
        cache: for what lies elsewhere than on this machine.
    """

    def __init__(self, place: Place, cache: Cache) -> None:
        self.source = place.address
        self._place = place
        self._cache = cache
        self._listed: list[str] | None = None  # when the source last answered
        self._away = False  # it did not answer when it was polled last

    def poll(self) -> tuple[str, ...]:
        """See `Repository`. One listing; no manifest is read."""
        try:
            found = complete(self._place.list())
        except SourceUnavailableError:
            self._away = True
            raise
        self._away = False
        if self._place.path(MANIFEST) is None and found != self._listed:
            self._listed = found
            try:
                self._cache.keep_listing(self.source, found)
            except OSError as error:
                logger.warning("%s: can't be kept for later: %s", self.source, error)
        return tuple(found)

    def cached(self) -> tuple[str, ...]:
        """See `Repository`. Without those that the source no longer had when it last answered."""
        listed = self._cache.listing(self.source) if self._listed is None else self._listed
        found = sorted(self._cache.versions(self.source), key=by_age)
        return tuple(version for version in found if listed is None or version in listed)

    def fetch(self, version: str) -> Fetched:
        """See `Repository`."""
        if not is_version(version):
            raise SourceError(self.source, version, "that can't be the name of a version")
        try:
            manifest = self._manifest(version)
            path = self._place.path(f"{version}/{MODEL}")
            if path is None:
                return Fetched(self._through_cache(manifest), manifest.sha256)
            found = difference(path, manifest)
        except FileNotFoundError as error:
            raise self._error(version, f"{MODEL} is not there, and the manifest is") from error
        except OSError as error:
            raise self._error(version, f"{error.filename}: {error.strerror}") from error
        except SourceError as error:
            # The place knows no version.
            if error.version:
                raise
            message = error.message.removeprefix(f"{self.source}: ")
            raise type(error)(self.source, version, message) from error
        if found is not None:
            raise self._error(version, f"{MODEL} is not what was published: {found}")
        return Fetched(path, manifest.sha256)

    def _manifest(self, version: str) -> Manifest:
        """The version's manifest, from the place, or as it was when it was fetched."""
        before = self._cache.manifest(self.source, version)
        if self._away:
            if before is None:
                text = "it does not answer, and this was not fetched before"
                raise SourceUnavailableError(self.source, version, text)
            return self._read_manifest(before, version)
        try:
            content = self._place.read(f"{version}/{MANIFEST}", 0, LARGEST)
        except SourceUnavailableError as error:
            if before is None:
                raise
            logger.warning("%s; going on with what was fetched before", error)
            content = before
        except FileNotFoundError as error:
            raise self._error(version, self._absence(version)) from error
        manifest = self._read_manifest(content, version)
        known = manifest if before is None else self._read_manifest(before, version)
        if known.sha256 != manifest.sha256:
            raise self._error(
                version,
                f"expected the model that was fetched before, sha256 {known.sha256}, and it is "
                f"{manifest.sha256} now: a version names one model for good. Publish the new one "
                "under another version",
            )
        return manifest

    def _read_manifest(self, content: bytes, version: str) -> Manifest:
        try:
            return Manifest.read(content, version)
        except ValueError as error:
            raise self._error(version, str(error)) from error

    def _absence(self, version: str) -> str:
        files = self._place.list()
        if f"{version}/{MODEL}" in files:
            return f"it is not complete: {MODEL} is there, {MANIFEST} is not (yet)"
        there = complete(files)
        few = ", ".join(there[-5:]) or "none"
        return f"there is no such version; the newest of {len(there)} are: {few}"

    def _through_cache(self, manifest: Manifest) -> Path:
        path = self._cache.model(manifest)
        if path is None:
            try:
                path = self._cache.keep_model(manifest, self._pieces(manifest))
            except ValueError as error:
                raise self._error(
                    manifest.version, f"{MODEL} is not what was published: {error}"
                ) from error
            except FileNotFoundError:  # at the source
                raise
            except OSError as error:
                raise self._not_kept(manifest.version, error) from error
        if self._cache.manifest(self.source, manifest.version) is None:
            try:
                self._cache.keep_manifest(self.source, manifest)
            except OSError as error:
                raise self._not_kept(manifest.version, error) from error
        return path

    def _not_kept(self, version: str, error: OSError) -> SourceError:
        text = f"it can't be kept in the cache {self._cache.folder}: {error.strerror}"
        return self._error(version, text)

    def _pieces(self, manifest: Manifest) -> Iterator[bytes]:
        """The model, piece by piece.

        Raises:
            ValueError: it is shorter or longer than the manifest says.
        """
        key = f"{manifest.version}/{MODEL}"
        size = self._place.size(key)
        if size != manifest.size:
            raise ValueError(f"expected {manifest.size} bytes, got {size}")
        for start in range(0, size, _PIECE):
            piece = self._place.read(key, start, min(_PIECE, size - start))
            yield piece

    def _error(self, version: str, message: str) -> SourceError:
        return SourceError(self.source, version, message)


def complete(files: Iterable[str]) -> list[str]:
    """The versions among some files' keys that are complete, the newest last."""
    keys = set(files)
    found = [
        version
        for key in keys
        for version, _, name in (key.partition("/"),)
        if name == MANIFEST and is_version(version) and f"{version}/{MODEL}" in keys
    ]
    return sorted(found, key=by_age)
