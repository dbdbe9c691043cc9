"""A ranking server for XGBoost models, and its parts: export, score, batch, serve.

from ranker import Model, export_onnx

export_onnx(xgb_ranker, "books.onnx")
model = Model.load("books.onnx")
order, scores = model.rank(features, top_k=10)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if sys.byteorder != "little":
    # Numbers travel, and are scored, as little-endian machines keep them.
    raise ImportError(
        f"ranker: expected a little-endian machine, this one is {sys.byteorder}-endian"
    )

if TYPE_CHECKING:
    from ranker.export import export_onnx
    from ranker.model.model import Model

__all__ = ["Model", "export_onnx"]

_HOMES = {"Model": ("ranker.model", "serve"), "export_onnx": ("ranker.export", "export")}
"""Of each name: its module, and the extra that this needs."""


def __getattr__(name: str) -> Any:
    """Imports a name when it is asked for: a server needs no exporter, a client no engine.

    Raises:
        MissingExtraError: it needs an extra that is not installed.
    """
    if name in _HOMES:
        from importlib import import_module

        from ranker.distribution import require

        module, extra = _HOMES[name]
        require(extra)
        return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
