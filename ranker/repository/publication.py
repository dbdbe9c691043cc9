"""Puts a model into a repository, as a version that is never written again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from ranker.errors import SourceError
from ranker.model import ModelFile
from ranker.repository.manifest import MANIFEST, MODEL, Manifest
from ranker.repository.place import Place, open_place
from ranker.repository.version_order import next_number

_PIECE = 8 << 20


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes:
        destination: where, as it was given.
        manifest: what.
        new: whether it was not there before.
    """

    destination: str
    manifest: Manifest
    new: bool


def publish(
    file: ModelFile,
    destination: str,
    version: str = "",
    *,
    progress: Callable[[str], None],
) -> Publication:
    """Uploads a model and then its manifest, with which the version is there.

    What was broken off can be done again: a model that is there with the same bytes
    is left as it is. Of two that publish one version at once, one is refused.

    Args:
        file: the model.
        destination: a folder, or an address that begins with `file://`, `gs://` or
            `s3://`; the model's versions are in it.
        version: the version to publish it as; empty: the one that is written in the
            file, or if there is none the next number.
        progress: is told of each file that is there.

    Raises:
        SourceError: the version is another model already, the file says that it is
            another version, or the destination can't be written.
        MissingExtraError: the destination is a bucket, and the extra `remote` is not
            installed.
    """
    place = open_place(destination)
    written = file.metadata.version
    if version and written and version != written:
        raise SourceError(
            place.address,
            version,
            f"the file says that it is version {written}: publish it as that, or export it "
            f"again with --version {version}",
        )
    version = version or written or _next(place)
    manifest = Manifest.of(file, version)
    try:
        new = _publish(place, file, manifest, progress)
    except SourceError as error:
        if error.version:
            raise
        message = error.message.removeprefix(f"{place.address}: ")
        raise type(error)(place.address, version, message) from error
    return Publication(place.address, manifest, new)


def _next(place: Place) -> str:
    """The number after all that are there, complete or not."""
    try:
        keys = place.list()
    except SourceError as error:
        if place.path("") is None or not isinstance(error.__cause__, FileNotFoundError):
            raise
        keys = []  # there is no such folder: it is made when it is written to
    return next_number([key.partition("/")[0] for key in keys])


def _publish(
    place: Place, file: ModelFile, manifest: Manifest, progress: Callable[[str], None]
) -> bool:
    version = manifest.version
    for name, content in ((MODEL, file.onnx.content), (MANIFEST, manifest.content)):
        key = f"{version}/{name}"
        new = True
        try:
            place.create(key, content)
        except FileExistsError as error:
            # Ours, if an earlier try, or an earlier request of this one, came so far.
            if not _holds(place, key, hashlib.sha256(content).hexdigest(), len(content)):
                raise SourceError(place.address, version, _taken(name)) from error
            new = False
        progress(f"{place.address.rstrip('/')}/{key}: {_bytes(len(content))}")
    return new


def _holds(place: Place, key: str, sha256: str, size: int) -> bool:
    if place.size(key) != size:
        return False
    digest = hashlib.sha256()
    for start in range(0, size, _PIECE):
        digest.update(place.read(key, start, min(_PIECE, size - start)))
    return digest.hexdigest() == sha256


def _taken(name: str) -> str:
    return (
        f"another {name} is there already, which is never overwritten: publish under another "
        "version"
    )


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count} bytes"
