"""One ONNX file as a repository with one version."""

from __future__ import annotations

from pathlib import Path

from ranker.errors import ModelError, SourceError
from ranker.model import ModelFile
from ranker.repository.fetched import Fetched
from ranker.repository.folder import stamp


class OneFile:
    """A file, whose version is the one that is written in it; see `Repository`.

    It is used where it lies: there is no manifest to hold it to.

    Args:
        source: as it was given.
        path: the file.
    """

    def __init__(self, source: str, path: Path) -> None:
        self.source = source
        self._path = path
        self._stamp = self._version = self._sha256 = ""

    def poll(self) -> tuple[str, ...]:
        """See `Repository`. The file is read only when it has changed."""
        try:
            now = stamp(self._path)
            if self._stamp != now:
                file = ModelFile.read(self._path)
                self._stamp, self._version, self._sha256 = now, file.version, file.digest
        except OSError as error:
            raise SourceError(self.source, "", f"can't be read: {error.strerror}") from error
        except ModelError as error:
            raise SourceError(self.source, "", error.message) from error
        return (self._version,)

    def cached(self) -> tuple[str, ...]:
        """See `Repository`: as `poll`, for the file is on this machine."""
        return self.poll()

    def fetch(self, version: str) -> Fetched:
        """See `Repository`."""
        (found,) = self.poll()
        if found != version:
            raise SourceError(
                self.source, version, f"there is no such version; the file is {found}"
            )
        return Fetched(self._path, self._sha256)
