"""A source of one model's versions."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ranker.errors import SourceError
from ranker.repository.cache import Cache
from ranker.repository.fetched import Fetched
from ranker.repository.one_file import OneFile
from ranker.repository.place import BUCKETS, default_cache, local_path, open_place
from ranker.repository.versions import Versions


class Repository(Protocol):
    """A source of one model's versions.

    Every error names the source, the version and what was expected.
    """

    source: str
    """As it was given."""

    def poll(self) -> tuple[str, ...]:
        """Asks the source which versions it has, complete, the newest last.

        Raises:
            SourceUnavailableError: it does not answer now.
            SourceError: it refuses, or is none.
        """

    def cached(self) -> tuple[str, ...]:
        """The versions that `fetch` gives without the source, the newest last."""

    def fetch(self, version: str) -> Fetched:
        """A version's model, a file on this machine whose size and digest are right.

        Without an answer of the source it is the one that was fetched before, if it was. A source
        that did not answer the last `poll` is not asked: to wait for it takes half a minute each
        time.

        Raises:
            SourceUnavailableError: the source does not answer, and the version was
                not fetched before.
            SourceError: there is no such version, or it is not what its manifest
                says, or the file can't be kept.
        """


def open_repository(source: str, cache: Path | None = None) -> Repository:
    """Opens a source of versions. Nothing is read yet.

    Args:
        source: an ONNX file, which is its only version; or a folder or a bucket's
            prefix with `VERSION/model.onnx` and `VERSION/manifest.json` in it: a path,
            or an address that begins with `file://`, `gs://` or `s3://`.
        cache: the folder for what is fetched from elsewhere; None: `ranker` in
            XDG_CACHE_HOME, which is `~/.cache` where that is not set.

    Raises:
        SourceError: there is no such file or folder, or it may not be read, or the source is none
            of these.
        MissingExtraError: it is a bucket, and the extra `remote` is not installed.
    """
    if not source.startswith(BUCKETS):
        path = local_path(source)
        try:
            if path.is_file():
                return OneFile(source, path)
            if not path.is_dir():
                raise SourceError(source, "", "there is no such file or folder")
        except OSError as error:
            raise SourceError(source, "", f"can't be read: {error.strerror}") from error
    return Versions(open_place(source), Cache(cache or default_cache()))
