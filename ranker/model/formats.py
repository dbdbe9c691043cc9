"""Which model format a file is in, by its content, and what to do with one that is not ONNX.

Nothing is loaded: a pickle runs what it holds.
"""

from __future__ import annotations

import bz2
import lzma
import re
import shlex
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

HEAD = 1 << 20
"""The most bytes that need be looked at; a block of bzip2 has up to 900 kB."""

_UNPACKED = 256
"""Bytes to unpack of a compressed file."""


@dataclass(frozen=True)
class Format:
    """A model format.

    Attributes:
        what: what a file of it is, with its article.
        advice: which way leads from it to a served model; `{path}` is the
            file's path and `{onnx}` that of the ONNX file to make of it.
    """

    what: str
    advice: str

    def refusal(self, path: str | PathLike[str]) -> str:
        """One line: what the file is, and what to do."""
        file = Path(path)
        names = {"path": file, "onnx": file.with_suffix(".onnx")}
        quoted = {key: shlex.quote(str(name)) for key, name in names.items()}
        return f"{self.what}: {self.advice.format(**quoted)}"


ONNX = Format("an ONNX file", "serve it as it is, ranker serve {path}")
XGBOOST = Format("an XGBoost model", "export it first, ranker export {path} -o {onnx}")
LIGHTGBM = Format(
    "a LightGBM model", "convert it with onnxmltools.convert_lightgbm, and serve the ONNX file"
)
CATBOOST = Format(
    "a CatBoost model",
    "have CatBoost write it as ONNX, save_model('model.onnx', format='onnx'), and serve that",
)
PICKLE = Format(
    "a pickle or joblib file",
    "load it in Python and call ranker.export_onnx(model, 'model.onnx')",
)
COMPRESSED = Format("a compressed file", "unpack it first")
_OLD_XGBOOST = Format(
    "an XGBoost model in the binary format of before version 3.1",
    "load it with an older XGBoost, save it with save_model('model.ubj'), and export that",
)
_DUMP = Format(
    "a text dump of XGBoost's, whose numbers are rounded",
    "save the model itself with save_model('model.ubj'), and export that",
)
_LFS = Format("a pointer of Git LFS and not the file itself", "fetch it with git lfs pull")

# Of each the beginning, as `re.match` takes it.
_BEGINNINGS = (
    (rb"\x08[\x01-\x7f][\x12\x1a\x22\x2a\x32\x3a\x42]", ONNX),
    (rb"\{L\x00{7}.(learner|version|Config|Model)", XGBOOST),
    (rb"binf", _OLD_XGBOOST),
    (rb"booster\[\d+\]", _DUMP),
    (rb"\s*\[\s*\{\s*\"nodeid\"", _DUMP),
    (rb"tree\r?\nversion=", LIGHTGBM),
    (rb"\s*\{\s*\"name\"\s*:\s*\"tree\"", LIGHTGBM),
    (rb"CBM1", CATBOOST),
    (rb"\s*\{\s*\"(features_info|model_info|oblivious_trees)\"", CATBOOST),
    # In JSON the keys may come in any order.
    (rb"\s*\{\s*\"(learner|version)\"\s*:\s*[\[{]", XGBOOST),
    (rb"\x80[\x02-\x05]", PICKLE),
    (rb"(\(?c|\(i)(copy_reg|__builtin__|xgboost|sklearn|numpy)", PICKLE),  # protocols 0 and 1
    (rb"version https://git-lfs", _LFS),
)


def recognise(content: bytes) -> Format | None:
    """The format that a file's beginning shows; None if it shows none that is known.

    Args:
        content: the file, or its first `HEAD` bytes; compressed ones are looked into.
    """
    found = _begins(content)
    if found is None and (inside := _unpacked(content[:HEAD])) is not None:
        # joblib reads its pickles compressed; all else has to be unpacked.
        return PICKLE if _begins(inside) is PICKLE else COMPRESSED
    return found


def _begins(content: bytes) -> Format | None:
    return next((found for start, found in _BEGINNINGS if re.match(start, content)), None)


def _unpacked(content: bytes) -> bytes | None:
    """The first bytes of what gzip, zlib, bzip2 or xz has compressed; None if none of them has."""
    try:
        if content[:2] == b"\x1f\x8b" or content[:1] == b"\x78":
            return zlib.decompressobj(wbits=47).decompress(content, _UNPACKED)
        if content[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(content, _UNPACKED)
        if content[:6] == b"\xfd7zXZ\0" or content[:3] == b"\x5d\0\0":
            return lzma.LZMADecompressor().decompress(content, _UNPACKED)
    except (zlib.error, OSError, lzma.LZMAError):
        pass
    return None
