"""A folder on this machine as a place of files."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ranker.errors import SourceError
from ranker.memory_file import Content

logger = logging.getLogger(__name__)


class Folder:
    """A folder; see `Place`.

    Args:
        address: as it was given.
        root: the folder.
    """

    def __init__(self, address: str, root: Path) -> None:
        self.address = address
        self._root = root
        self._left_out: set[str] = set()

    def list(self) -> Sequence[str]:
        """Files two levels down, for that is where a repository has them."""
        found = []
        with self._errors("can't be listed"):
            for folder in self._folders():
                try:
                    # What is removed while it is listed, and a link to nothing, are not there.
                    with suppress(FileNotFoundError, NotADirectoryError):
                        found += [
                            f"{folder.name}/{path.name}"
                            for path in folder.iterdir()
                            if path.exists()
                        ]
                except PermissionError as error:  # as of `lost+found`, where a file system begins
                    self._leave_out(folder.name, error)
        return found

    def size(self, key: str) -> int:
        """See `Place`."""
        with self._errors(f"{key} can't be read"):
            return self.path(key).stat().st_size

    def read(self, key: str, start: int, length: int) -> bytes:
        """See `Place`."""
        with self._errors(f"{key} can't be read"), self.path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def create(self, key: str, content: Content) -> None:
        """Writes beside the file, then gives it its name, which must be free."""
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o644)
                os.link(file.name, path)
        except FileExistsError:
            raise
        except OSError as error:
            message = f"{key} can't be written: {error.strerror}"
            raise SourceError(self.address, "", message) from error

    def path(self, key: str) -> Path:
        """See `Place`."""
        return self._root / key

    def _folders(self) -> Iterable[Path]:
        try:
            yield from self._root.iterdir()
        except FileNotFoundError:
            if not self._root.is_dir():
                raise
            # Somebody made the folder after it was looked for: then it was empty.

    def _leave_out(self, name: str, error: OSError) -> None:
        """Says once that a folder in it can't be listed; the others can."""
        if name not in self._left_out:
            self._left_out.add(name)
            logger.warning("%s: %s is left out: %s", self.address, name, error.strerror)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if self._root.is_dir():
                raise
            raise SourceError(self.address, "", "there is no such folder") from error
        except OSError as error:
            raise SourceError(self.address, "", f"{what}: {error.strerror}") from error


def stamp(path: Path) -> str:
    """Changes when a file is written again."""
    facts = path.stat()
    return f"{facts.st_ino}-{facts.st_size}-{facts.st_mtime_ns}"
