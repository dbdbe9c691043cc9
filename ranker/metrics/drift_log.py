"""What a worker has counted of features, on its way to the office: the access log's connection."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ranker.metrics.access_log import send

FEATURES_AT_ONCE = 24
"""Features in one packet at most: it has 20 KiB then, with the longest names, and to write it takes
about as long as a step of counting."""

SCORES = -1
"""Stands for the scores where else a feature's position does."""

_MOST_CHARACTERS = 128
"""Of a feature's name."""


class ModelKey(NamedTuple):
    """Tells a model from all others."""

    name: str
    version: str
    digest: str


class CountedFeature(NamedTuple):
    """What was counted of a feature, or of the scores.

    Attributes:
        column: the feature's position, or `SCORES`.
        name: what it is called.
        reference: rows of the training data in each bin, and without a value; None: not known.
        counts: rows that were counted, likewise.
        lists: the lists that these belong to.
        only: the value that all rows have which have one; None: they differ, or none has.
        ordered: whether the first bin is below all thresholds, and the last one above.
    """

    column: int
    name: str
    reference: tuple[int, ...] | None
    counts: tuple[int, ...]
    lists: int
    only: float | None
    ordered: bool


class DriftLog:
    """The workers' end: sends what was counted, unless the office does not keep up.

    Args:
        fd: the workers' end of the connection.
        worker: which worker this is.
    """

    def __init__(self, fd: int, worker: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._worker = str(worker)

    def counted(self, model: ModelKey, features: Sequence[CountedFeature]) -> None:
        """Sends counts of at most `FEATURES_AT_ONCE` features; they may get lost."""
        self._send("drift", [tuple(model), *map(tuple, features)])

    def served(self, models: Sequence[ModelKey]) -> None:
        """Says that this worker serves these models from now on, and no others."""
        self._send("drift_served", list(map(tuple, models)))

    def _send(self, kind: str, entries: list[tuple[object, ...]]) -> None:
        with suppress(OSError):  # the sample is a little smaller then
            send(self._socket, self._worker, kind, entries)


def label_of(name: str, column: int) -> str:
    """A feature's name as a label: of at most `_MOST_CHARACTERS`, and still its own."""
    if len(name) > _MOST_CHARACTERS:
        name = f"{name[: _MOST_CHARACTERS - 16]}... ({column})"
    return name.encode("utf-8", "replace").decode()
