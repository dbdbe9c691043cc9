"""The files of a ranking log in a folder: open, finished, left behind, removed for room.

    rankings-20261128T193724.123456789Z-1f0c9a2b.tfrecord         finished: complete
    rankings-20261128T193724.123456789Z-1f0c9a2b.tfrecord.open    some process writes it

The time is that of the file's first record (UTC), so that names sort by it. If the clock was set
back, it is just after the newest time of a file in the folder. Whoever writes a file
holds a lock on it, which the kernel takes away when the process ends, however it ends: an open
file that nobody has locked is finished by the next who looks.
"""

from __future__ import annotations

import calendar
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ranker.errors import SourceError
from ranker.repository.place import BUCKETS, default_cache, local_path

SUFFIX = ".tfrecord"
OPEN_SUFFIX = ".tfrecord.open"

_NAME = re.compile(r"rankings-(\d{8}T\d{6})\.(\d{9})Z-[0-9a-f]{8}\.tfrecord(\.open)?")

_PIECES_AT_ONCE = 1024
"""Linux's limit on the pieces of one write (IOV_MAX)."""

_EMPTY_SECONDS = 60.0
"""A file that is open, unlocked and empty for so long is not about to be written."""


def folder_of(address: str, model_cache: str) -> Path:
    """Where on this machine a server writes its log.

    Args:
        address: of the log: a folder; or a bucket, and then files wait in the cache to be uploaded.
        model_cache: the folder of the cache; empty: the user's.

    Raises:
        SourceError: the address is neither.
    """
    if not address.startswith(BUCKETS):
        folder = local_path(address)
        if folder.is_file():
            raise SourceError(address, "", "expected a folder, got a file")
        return folder
    mark = hashlib.sha256(address.encode()).hexdigest()[:16]
    cache = Path(model_cache) if model_cache else default_cache()
    return cache / "rankings" / mark


class Segment:
    """A file while it is written.

    Args:
        folder: where; it must exist.
        first: when its first record was answered, in nanoseconds since 1970.

    Attributes:
        size: its bytes.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, folder: Path, first: int) -> None:
        seconds, nanoseconds = divmod(_after_all(folder, first), 10**9)
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
        name = f"rankings-{moment}.{nanoseconds:09}Z-{secrets.token_hex(4)}"
        self._path = folder / f"{name}{OPEN_SUFFIX}"
        self._finished = folder / f"{name}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o640)
        with contextlib.suppress(OSError):  # a file system without locks: nobody will adopt it
            # Waits for whoever has just found the file and looks whether it was left behind: that
            # takes a moment, and a file that is written without a lock would be adopted later.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.size = 0

    def write(self, pieces: Sequence[bytes]) -> None:
        """Writes whole records; if that fails it is as before.

        Raises:
            OSError: they can't be written.
        """
        if not os.fstat(self._fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, f"{self._path} has been removed")
        try:
            for begin in range(0, len(pieces), _PIECES_AT_ONCE):
                self._write(pieces[begin : begin + _PIECES_AT_ONCE])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            raise
        self.size += sum(map(len, pieces))

    def finish(self) -> None:
        """Gives it its name as a complete file.

        Raises:
            OSError: it can't be done.
        """
        try:
            if self.size:
                self._path.rename(self._finished)
            else:
                self._path.unlink()
        finally:
            os.close(self._fd)

    def _write(self, pieces: Sequence[bytes]) -> None:
        left = sum(map(len, pieces)) - os.writev(self._fd, pieces)
        if left:  # a disk that is nearly full takes a part
            rest = b"".join(pieces)[-left:]
            while rest:
                rest = rest[os.write(self._fd, rest) :]


def _after_all(folder: Path, first: int) -> int:
    """The time in the name of a new file: of its first record, or later if the clock was set back.

    The oldest files, by their names, are removed for room. After the clock was set back a new file
    must not be one of them, though its records seem to be older than those of others. In all other
    cases no file has a time that is yet to come.
    """
    names = [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    newest = max(map(first_time, names), default=0)
    return first if newest < time.time_ns() else max(first, newest + 1)


def first_time(name: str) -> int:
    """The time in a file's name, in nanoseconds since 1970: when its records begin.

    Raises:
        ValueError: it is no name of such a file.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no name of a file of a ranking log")
    return calendar.timegm(time.strptime(found[1], "%Y%m%dT%H%M%S")) * 10**9 + int(found[2])


def finished(folder: Path) -> list[Path]:
    """The complete files of a folder, the oldest first.

    Raises:
        OSError: the folder can't be read.
    """
    return sorted(path for path in folder.iterdir() if is_finished(path.name) and path.is_file())


def is_finished(name: str) -> bool:
    """Whether a file of this name is a complete one of a ranking log."""
    return name.endswith(SUFFIX) and _NAME.fullmatch(name) is not None


def adopt(folder: Path) -> int:
    """Finishes the files of processes that have ended without doing so.

    Returns:
        How many were finished; those that were empty are not among them.

    Raises:
        OSError: the folder can't be read.
    """
    count = 0
    for path in folder.iterdir():
        if not (path.name.endswith(OPEN_SUFFIX) and _NAME.fullmatch(path.name)):
            continue
        if path.is_file() and not path.is_symlink():  # opening a pipe would wait for its writer
            with contextlib.suppress(OSError):  # it is locked, or another one was faster
                count += _adopt(path)
    return count


def _adopt(path: Path) -> bool:
    """Finishes one file; whether there was anything in it."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        facts = os.fstat(file.fileno())
        if facts.st_size:
            path.rename(path.with_suffix(""))
            return True
        if time.time() - facts.st_mtime > _EMPTY_SECONDS:
            path.unlink()
        return False


def make_room(folder: Path, most: int) -> int:
    """Removes the oldest complete files, until the others have at most so many bytes.

    Returns:
        How many were removed.

    Raises:
        OSError: the folder can't be read.
    """
    found = list(sizes(finished(folder)))
    total, removed = sum(size for _, size in found), 0
    for path, size in found:
        if total <= most:
            break
        total -= size
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.unlink()
            removed += 1
    return removed


def sizes(paths: Sequence[Path]) -> Iterator[tuple[Path, int]]:
    """Some files and their bytes, without those that have been removed meanwhile."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield path, path.stat().st_size
