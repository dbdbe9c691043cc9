"""A model's file: its bytes, read once, and what they say about the model.

The reader of ONNX files is imported when a file is read: a worker, who takes models over from
arrays, has no need of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ranker.errors import ModelError
from ranker.memory_file import mapped
from ranker.model.formats import HEAD, ONNX, recognise
from ranker.model.metadata import ModelMetadata, check_name, name_of

if TYPE_CHECKING:
    from ranker.forest.onnx import OnnxFile


class ModelFile:
    """The bytes of a model: names, features, trees and scores all come from these.

    Args:
        onnx: the file.
        filename: what it is called, for a model without a name.

    Attributes:
        onnx: the file, for an engine.
        digest: the SHA-256 of its bytes, in hexadecimal.
        metadata: what it says about the model beside the trees.
        name: the model's name on the wire.
        version: the model's version on the wire.

    Raises:
        ModelError: the metadata can't be read, or the name or the version in it
            is none (`check_name`): requests ask for the very name that was
            exported, so it is not mended here.
    """

    def __init__(self, onnx: OnnxFile, filename: str) -> None:
        self.onnx = onnx
        self.digest = hashlib.sha256(onnx.content).hexdigest()
        self.metadata = ModelMetadata.from_props(onnx.props)
        self.name = self.metadata.name or name_of(filename)
        self.version = self.metadata.version or "1"
        check_name("name", self.name)
        check_name("version", self.version)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> ModelFile:
        """Reads a file, once.

        Raises:
            ModelError: it can't be read, or is no model; of another format that
                is known it says what to do.
        """
        from ranker.forest.onnx import OnnxFile

        with _other_formats_explained(path, lambda: _beginning(path)):
            return cls(OnnxFile.read(path), Path(path).name)

    @classmethod
    def inherited(cls, fd: int, path: str | PathLike[str]) -> ModelFile:
        """Reads a file that another process has read into memory (`ranker.memory_file`).

        Args:
            fd: the file in memory.
            path: where it was read from.

        Raises:
            ModelError: it is no model; as for `read`.
        """
        from ranker.forest.onnx import OnnxFile

        content = mapped(fd)
        with _other_formats_explained(path, lambda: content[:HEAD]):
            return cls(OnnxFile(content), Path(path).name)


@contextmanager
def _other_formats_explained(
    path: str | PathLike[str], beginning: Callable[[], bytes]
) -> Iterator[None]:
    """Has the error about a file that is not ONNX say what it is, and what to do."""
    try:
        yield
    except ModelError as error:
        found = recognise(beginning())
        if found is None or found is ONNX:
            raise
        raise ModelError(found.refusal(path)) from error


def _beginning(path: str | PathLike[str]) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""  # which has been reported
