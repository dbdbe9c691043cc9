"""Where the configuration lies: a file on this machine, or one in a bucket."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from ranker.errors import ConfigError, SourceError, SourceUnavailableError
from ranker.repository.cache import Cache
from ranker.repository.config import Config, parse_config
from ranker.repository.place import BUCKETS, default_cache, local_path

logger = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20


class Written(NamedTuple):
    """What a configuration's file holds.

    Attributes:
        text: likewise.
        stamp: tells it from what is written there before and after, where the place has such.
    """

    text: str
    stamp: str = ""


class ConfigPlace(Protocol):
    """A configuration's file."""

    name: str
    """What errors call it."""

    base: str
    """What relative sources in it count from: a folder, or a bucket's prefix."""

    def read(self) -> Written:
        """What it holds now.

        Raises:
            ConfigError: it can't be read.
        """

    def replace(self, text: str, before: Written) -> None:
        """Writes another text, whole or not at all.

        Args:
            text: likewise.
            before: what it held when the text was made of it.

        Raises:
            ConfigError: it can't be written, or somebody else has changed it.
        """

    def stamp(self) -> object:
        """What changes when the file does; None where asking for it is not cheap."""


def load_config(place: ConfigPlace) -> Config:
    """Reads a configuration.

    Raises:
        ConfigError: it can't be read, or is wrong; has all that is wrong, a line each.
    """
    return parse_config(place.read().text, place.name)


def open_config(address: str, cache: Path | None = None) -> ConfigPlace:
    """Opens a configuration. Nothing is read yet.

    Args:
        address: a path, or an address that begins with `file://`, `gs://` or `s3://`.
        cache: the folder for what is fetched from elsewhere; None: see `open_repository`.

    Raises:
        SourceError: the address is none of these.
        MissingExtraError: it is in a bucket, and the extra `remote` is not installed.
    """
    if address.startswith(BUCKETS):
        return BucketConfig(address, Cache(cache or default_cache()))
    return LocalConfig(local_path(address))


class LocalConfig:
    """A file on this machine; see `ConfigPlace`.

    Args:
        path: the file. It may be a link that is changed, as Kubernetes does it.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.base = str(path.absolute().parent)
        self._path = path

    def read(self) -> Written:
        """See `ConfigPlace`."""
        try:
            return Written(self._path.read_bytes().decode())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(f"{self.name}: can't be read: {reason}") from error

    def replace(self, text: str, before: Written) -> None:
        """See `ConfigPlace`. Of two that replace it at once the second finds it changed."""
        path = self._path.resolve()
        try:
            with _locked(path.parent):
                self._check(before)
                self._write(path, text)
        except OSError as error:
            raise ConfigError(
                f"{self.name}: can't be written: {error.strerror}; if it is made from "
                "another file, edit that one"
            ) from error

    def _check(self, before: Written) -> None:
        """Raises ConfigError if somebody else has changed it."""
        if self.read() != before:
            raise _changed(self.name)

    def _write(self, path: Path, text: str) -> None:
        """Writes beside the file, then gives it its name."""
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
                self._make_alike(file.fileno(), path.stat())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise

    def _make_alike(self, fd: int, old: os.stat_result) -> None:
        """Gives a new file the owner, group and mode of the old one.

        Raises:
            ConfigError: this user may not, or it can't be done at all.
        """
        new = os.fstat(fd)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.fchown(fd, old.st_uid, old.st_gid)
            except OSError as error:
                if not isinstance(error, PermissionError):
                    advice = f"the system gives it no such owner: {error.strerror}"
                elif new.st_uid != old.st_uid:
                    advice = "run this as that user"
                else:
                    advice = f"you are not in group {old.st_gid}; run this once you are, or as root"
                raise ConfigError(
                    f"{self.name}: can't be replaced: it belongs to user {old.st_uid} and group "
                    f"{old.st_gid}, and a new file would not; {advice}"
                ) from error
        os.fchmod(fd, old.st_mode & 0o7777)  # last: another owner takes bits from it

    def stamp(self) -> object:
        """What changes when the file does, also behind a link to a folder."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            return error.errno
        return os.path.realpath(self._path), found.st_ino, found.st_mtime_ns, found.st_size


class BucketConfig:
    """An object in a bucket; see `ConfigPlace`.

    If the bucket does not answer it is what was read last, as models are: so that a server starts
    again without the bucket.

    Args:
        address: of the object.
        cache: where to keep what was read.
    """

    def __init__(self, address: str, cache: Cache) -> None:
        from ranker.repository.bucket import Bucket

        self.name = address
        self.base = address.rpartition("/")[0]
        self._object = Bucket(address)
        self._cache = cache
        self._last: bytes | None = None

    def read(self) -> Written:
        """See `ConfigPlace`."""
        try:
            content, stamp = self._object.read_object(_MOST_BYTES)
        except SourceUnavailableError as error:
            before = self._cache.config(self.name) if self._last is None else self._last
            if before is None:
                raise ConfigError(error.message) from error
            logger.warning("%s; going on with what was read before", error.message)
            content, stamp = before, ""
        except FileNotFoundError as error:
            raise ConfigError(f"{self.name}: there is no such file") from error
        except SourceError as error:
            raise ConfigError(error.message) from error
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.name}: can't be read: it is not UTF-8") from error
        if stamp:
            self._last = content
            self._keep(content)
        return Written(text, stamp)

    def replace(self, text: str, before: Written) -> None:
        """See `ConfigPlace`. The bucket itself refuses it if the object has changed."""
        if not before.stamp:
            raise ConfigError(f"{self.name}: can't be written: the bucket did not answer")
        try:
            self._object.replace_object(text.encode(), before.stamp)
        except FileExistsError as error:
            raise _changed(self.name) from error
        except FileNotFoundError as error:
            raise ConfigError(f"{self.name}: there is no such file any more") from error
        except SourceError as error:
            raise ConfigError(error.message) from error

    def stamp(self) -> object:
        """None: each look is a request."""
        return None

    def _keep(self, content: bytes) -> None:
        if self._cache.config(self.name) == content:
            return
        try:
            self._cache.keep_config(self.name, content)
        except OSError as error:
            logger.warning("%s: can't be kept for later: %s", self.name, error)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps others from a folder at the same time.

    The file itself is replaced, and would take a lock of its own with it.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system that locks no folders, as NFS: flock(2)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)  # and the lock goes


def _changed(name: str) -> ConfigError:
    return ConfigError(f"{name}: has changed in the meantime; run it again")
