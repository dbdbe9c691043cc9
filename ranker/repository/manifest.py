"""What a version's `manifest.json` says: which bytes the version is, and what model they hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ranker.errors import ModelError
from ranker.model import ModelFile
from ranker.model.metadata import PREFIX, check_name

MODEL = "model.onnx"
"""What a version's model is called."""

MANIFEST = "manifest.json"
"""What its manifest is called."""

LARGEST = 16 << 20
"""The most bytes of a manifest."""

_FORMAT = 1
_TOLD_BY_THE_FILE = ("name", "version", "categories")  # the last may be many megabytes


@dataclass(frozen=True)
class Manifest:
    """A manifest.

    Attributes:
        version: the version.
        sha256: the digest of the model's file, in hexadecimal.
        size: the bytes of the model's file.
        content: the manifest as it is written, JSON in UTF-8.
    """

    version: str
    sha256: str
    size: int
    content: bytes

    @classmethod
    def of(cls, file: ModelFile, version: str) -> Manifest:
        """Describes a model. The same model gives the same bytes.

        Args:
            file: the model.
            version: the version to publish it as.
        """
        props = file.onnx.props
        metadata = {
            key.removeprefix(PREFIX): _value(text)
            for key, text in sorted(props.items())
            if key.startswith(PREFIX) and key.removeprefix(PREFIX) not in _TOLD_BY_THE_FILE
        }
        document = {
            "format": _FORMAT,
            "version": version,
            "files": {MODEL: {"sha256": file.digest, "size": len(file.onnx.content)}},
            "xgboost_version": metadata.pop("xgboost_version", ""),
            "parity": metadata.pop("parity", None),
            "metadata": metadata,
        }
        content = json.dumps(document, indent=1).encode() + b"\n"
        return cls(version, file.digest, len(file.onnx.content), content)

    @classmethod
    def read(cls, content: bytes, version: str) -> Manifest:
        """Reads a manifest; what it says beyond the attributes is for people.

        Args:
            content: the file.
            version: the version that it lies beside.

        Raises:
            ValueError: it is none, or of another version; says what was expected.
        """
        try:
            document = json.loads(content)
        except ValueError as error:
            raise ValueError(f"{MANIFEST} is not JSON, or not whole: {error}") from error
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ValueError(f'{MANIFEST}: expected an object with "format": {_FORMAT}')
        if document.get("version") != version:
            raise ValueError(
                f"{MANIFEST} is that of version {document.get('version')!r}: publish a model "
                "again instead of copying its folder under another version"
            )
        try:
            described = document["files"][MODEL]
            sha256, size = described["sha256"], described["size"]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{MANIFEST}: expected files, {MODEL} with its sha256 and size"
            ) from error
        if not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)):
            raise ValueError(f"{MANIFEST}: sha256: expected 64 hexadecimal digits, got {sha256!r}")
        if type(size) is not int or size < 1:
            raise ValueError(f"{MANIFEST}: size: expected a number of bytes, got {size!r}")
        return cls(version, sha256, size, content)


def is_version(text: str) -> bool:
    """Whether a folder's name can be that of a version."""
    try:
        check_name("version", text)
    except ModelError:
        return False
    return True


def _value(text: str) -> Any:
    """Metadata is JSON (`ModelMetadata`), and has been read before."""
    return json.loads(text)
