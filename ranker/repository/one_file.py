"""One ONNX file as a repository with one version."""

from __future__ import annotations

from pathlib import Path

from ranker.errors import ModelError, SourceError
from ranker.model import ModelFile
from ranker.repository.folder import stamp
from ranker.repository.published import Published


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
        self._known: Published | None = None

    def poll(self) -> tuple[Published, ...]:
        """See `Repository`. The file is read only when it has changed."""
        try:
            now = stamp(self._path)
            if self._known is None or self._known.stamp != now:
                self._known = Published(ModelFile.read(self._path).version, now)
        except OSError as error:
            raise SourceError(self.source, "", f"can't be read: {error.strerror}") from error
        except ModelError as error:
            raise SourceError(self.source, "", error.message) from error
        return (self._known,)

    def cached(self) -> tuple[Published, ...]:
        """See `Repository`: as `poll`, for the file is on this machine."""
        return self.poll()

    def fetch(self, version: str) -> Path:
        """See `Repository`."""
        (found,) = self.poll()
        if found.version != version:
            raise SourceError(
                self.source, version, f"there is no such version; the file is {found.version}"
            )
        return self._path
