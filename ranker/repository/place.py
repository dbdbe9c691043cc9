"""Where files lie: the little that a repository needs of a folder or a bucket."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ranker.errors import SourceError
from ranker.memory_file import Content
from ranker.repository.folder import Folder

BUCKETS = ("gs://", "s3://")
"""How the address of a bucket begins."""

_SCHEME = re.compile(r"[a-z0-9+.-]+://|(file|gs|s3):")
"""How an address begins that is no path, or is one of ours with a mistake in it."""


class Place(Protocol):
    """Files by key: names with `/` between them. Nothing is ever written over."""

    address: str
    """The place, as it was given."""

    def list(self) -> Sequence[str]:
        """Every file's key.

        Raises:
            SourceError: the place can't be listed.
        """

    def size(self, key: str) -> int:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is no such file.
            SourceError: the place can't tell.
        """

    def read(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a file; fewer only at its end.

        Raises:
            FileNotFoundError: there is no such file.
            SourceError: they can't be read.
        """

    def create(self, key: str, content: Content) -> None:
        """Writes a file that is not there yet, whole or not at all.

        Raises:
            FileExistsError: it is there; it stays as it is.
            SourceError: it can't be written.
        """

    def path(self, key: str) -> Path | None:
        """Where the file lies on this machine; None if it lies elsewhere."""


def open_place(address: str) -> Place:
    """Opens a folder, or a bucket's prefix. Nothing is read yet.

    Args:
        address: a path, or an address that begins with `file://`, `gs://` or `s3://`.

    Raises:
        SourceError: the address is none of these.
        MissingExtraError: it is a bucket's, and the extra `remote` is not installed.
    """
    if address.startswith(BUCKETS):
        from ranker.repository.bucket import Bucket

        return Bucket(address)
    return Folder(address, local_path(address))


def local_path(address: str) -> Path:
    """The path that an address on this machine means.

    Raises:
        SourceError: it is an address of something else.
    """
    if not _SCHEME.match(address):
        return Path(address)
    if not address.startswith("file:///"):
        raise SourceError(
            address,
            "",
            "expected a path, file:///path, gs://bucket/path or s3://bucket/path",
        )
    return Path(address.removeprefix("file://"))


def default_cache() -> Path:
    """The folder for what is fetched from elsewhere, or waits to be uploaded, if none is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ranker"
