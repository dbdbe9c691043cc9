"""The messages of most lists, read and written in C.

Without the extension, which is optional as the simd engine is, `read` reads none and `write` is
None: `ranker.serving.wire` then has protobuf do it, as it does for all other requests.
"""

from __future__ import annotations

from typing import Protocol

from ranker.engine.api import Scores
from ranker.serving.task import Asked


class List(Asked, Protocol):
    """A RankRequest that names no features, and has no context and no ids."""

    @property
    def top_k(self) -> int:
        """How many of the best to answer with; 0: all."""

    @property
    def rows(self) -> int:
        """Its candidates, at least 1."""

    @property
    def columns(self) -> int:
        """Their features."""

    @property
    def offset(self) -> int:
        """Where in the message the candidates begin: float32 [rows, columns]."""


class Read(Protocol):
    """Reads a RankRequest."""

    def __call__(self, message: bytes, max_rows: int, /) -> List | None:
        """Reads one; None: it is of another kind, is broken, or has more rows."""


class Write(Protocol):
    """Ranks, and encodes a RankResponse."""

    def __call__(
        self, request_id: str, model: str, version: str, arm: str, scores: Scores, top_k: int,
        ids: list[str], queued: float, scoring: float, total: float, /,
    ) -> bytes:  # fmt: skip
        """Encodes one of the `top_k` best, or of all (0).

        Args:
            request_id: the caller's own mark.
            model: the model's name.
            version: its version.
            arm: the label that it was chosen by; empty: none.
            scores: C-contiguous float32 [n]; NaN ranks last, equal ones keep their order.
            top_k: how many of the best.
            ids: one per score, or none.
            queued: seconds before the scoring.
            scoring: seconds of it.
            total: seconds in all.
        """


def _read_none(_message: bytes, _max_rows: int, /) -> None:
    return None


read: Read = _read_none
write: Write | None = None
try:
    from ranker.serving.messages import _messages  # type: ignore[attr-defined,unused-ignore]
except ImportError:
    pass
else:
    read, write = _messages.read, _messages.write
