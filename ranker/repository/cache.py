"""What was fetched before, on this machine's disk: models by the digest of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ranker.repository.manifest import Manifest

MOST_MODELS = 64
"""Beyond so many, those are removed that nobody has asked for in `KEPT_SECONDS`. A server asks for
what it serves whenever it asks the sources, and every reader of a cache does that for itself."""

KEPT_SECONDS = 24 * 3600.0

_PIECE = 1 << 20
_ABANDONED_AFTER = 24 * 3600.0
"""Seconds after which an unfinished file is that of a process that was ended."""


class Cache:
    """A folder of models and manifests. Processes may share it.

    A file appears in it whole or not at all. Models are found by their bytes'
    digest, whatever source they came from; manifests by source and version.

    Args:
        folder: made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def manifest(self, source: str, version: str) -> bytes | None:
        """A version's manifest as it was when last fetched."""
        try:
            return self._manifests(source).joinpath(f"{version}.json").read_bytes()
        except FileNotFoundError:
            return None

    def versions(self, source: str) -> list[str]:
        """The versions of a source that were fetched before and are still here, in no order."""
        return [
            path.stem for path in self._manifests(source).glob("*.json") if self._has_model(path)
        ]

    def listing(self, source: str) -> list[str] | None:
        """The versions that a source had when it was last asked; None if that is not known."""
        try:
            return self._listing(source).read_text().split()
        except FileNotFoundError:
            return None

    def keep_listing(self, source: str, versions: Sequence[str]) -> None:
        """Notes which versions a source has.

        Raises:
            OSError: it can't be written.
        """
        if self.listing(source) != list(versions):
            self._write(("\n".join(versions).encode(),), self._listing(source))

    def keep_manifest(self, source: str, manifest: Manifest) -> None:
        """Writes a manifest; after the model, which it stands for.

        Raises:
            OSError: it can't be written.
        """
        path = self._manifests(source) / f"{manifest.version}.json"
        self._write((manifest.content,), path)

    def config(self, address: str) -> bytes | None:
        """A configuration as it was when last read."""
        try:
            return self._config(address).read_bytes()
        except FileNotFoundError:
            return None

    def keep_config(self, address: str, content: bytes) -> None:
        """Writes a configuration.

        Raises:
            OSError: it can't be written.
        """
        self._write((content,), self._config(address))

    def model(self, manifest: Manifest) -> Path | None:
        """A model that is whole; None if there is none. Notes that it is used.

        Raises:
            OSError: it can't be read.
        """
        path = self._model(manifest.sha256)
        if path.exists() and difference(path, manifest) is None:
            with contextlib.suppress(OSError):  # of a cache that may only be read
                os.utime(path)
            return path
        return None

    def keep_model(self, manifest: Manifest, pieces: Iterable[bytes]) -> Path:
        """Writes a model.

        Args:
            manifest: what it must be.
            pieces: its bytes.

        Raises:
            ValueError: it is something else; nothing is kept.
            OSError: it can't be written.
        """
        path = self._model(manifest.sha256)
        self._write(pieces, path, manifest)
        self._remove_unused()
        return path

    def _has_model(self, manifest: Path) -> bool:
        try:
            sha256 = Manifest.read(manifest.read_bytes(), manifest.stem).sha256
        except (OSError, ValueError):
            return False
        return self._model(sha256).exists()

    def _remove_unused(self) -> None:
        """Removes models beyond the number that is kept, those first that were used last long ago.

        Manifests stay: they are small, and hold a version to the model that it was.
        """
        used: list[tuple[float, Path]] = []
        for path in (self.folder / "models").iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process removes as well
                used.append((path.stat().st_mtime, path))
        for when, path in sorted(used, reverse=True)[MOST_MODELS:]:
            if time.time() - when > KEPT_SECONDS:
                path.unlink(missing_ok=True)

    def _manifests(self, source: str) -> Path:
        return self.folder / "sources" / _short(source)

    def _listing(self, source: str) -> Path:
        return self._manifests(source) / "listing"

    def _config(self, address: str) -> Path:
        return self.folder / "configurations" / f"{_short(address)}.yaml"

    def _model(self, sha256: str) -> Path:
        return self.folder / "models" / f"{sha256}.onnx"

    def _write(self, pieces: Iterable[bytes], path: Path, expected: Manifest | None = None) -> None:
        unfinished = self.folder / "unfinished"
        for folder in (path.parent, unfinished):
            folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(unfinished)
        fd, name = tempfile.mkstemp(dir=unfinished)
        try:
            with open(fd, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(fd)
            if expected is not None:
                _refuse_another(Path(name), expected)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _short(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]


def difference(path: Path, manifest: Manifest) -> str | None:
    """In what a file differs from the one that a manifest describes; None if it doesn't.

    Raises:
        OSError: it can't be read.
    """
    size = path.stat().st_size
    if size != manifest.size:
        return f"expected {manifest.size} bytes, got {size}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    if (found := digest.hexdigest()) != manifest.sha256:
        return f"expected sha256 {manifest.sha256}, got {found}"
    return None


def _refuse_another(path: Path, manifest: Manifest) -> None:
    if found := difference(path, manifest):
        raise ValueError(found)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.iterdir():
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                path.unlink()
        except FileNotFoundError:
            continue  # its process has just finished it
