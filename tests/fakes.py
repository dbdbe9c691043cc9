"""Stand-ins for what surrounds the code under test."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ranker.engine.api import Engine, Rows, Scores
from ranker.errors import Code, RankerError


class FakeCall:
    """A call that remembers what its handler did."""

    def __init__(
        self, method: str = "/test", deadline: float = math.inf, peer: str = "ipv4:127.0.0.1:1"
    ) -> None:
        self.method = method
        self.caller: Any = None
        self.names: tuple[str, ...] = ()
        self._peer = peer
        self.metadata: list[tuple[str, str | bytes]] = []
        self.traceparent: str | None = None
        self.arrived = time.monotonic()
        self.deadline = deadline
        self.cancelled = False
        self.unsent = 0
        self.code = Code.UNKNOWN
        self.tag: object = None
        self.opened = False  # its handler has been told
        self.sent: list[bytes] = []
        self.over = False
        self.error: RankerError | None = None
        self.resumed = 0

    def peer(self) -> str:
        return self._peer

    def certified_names(self) -> tuple[str, ...]:
        return self.names

    def send(self, message: bytes) -> None:
        assert not self.over
        self.sent.append(message)

    def finish(self, message: bytes | None = None) -> None:
        assert not self.over
        if message is not None:
            self.sent.append(message)
        self.over = True
        self.code = Code.OK

    def fail(self, error: RankerError) -> None:
        assert not self.over
        self.over = True
        self.error = error
        self.code = error.code

    def resume(self) -> None:
        self.resumed += 1


class SumEngine(Engine):
    """Scores a row with the sum of its features; counts its batches."""

    name = "sum"

    def __init__(self, num_features: int = 3) -> None:
        self.num_features = num_features
        self.batches: list[list[int]] = []

    def score(self, blocks: Sequence[Rows]) -> Scores:
        self.batches.append([len(block) for block in blocks])
        rows = np.concatenate(blocks)
        assert rows.dtype == np.float32
        assert rows.shape[1] == self.num_features
        return rows.sum(axis=1, dtype=np.float32)


class BrokenEngine(SumEngine):
    """Fails while `broken` is set."""

    broken = True
    error: type[Exception] = RuntimeError

    def score(self, blocks: Sequence[Rows]) -> Scores:
        if self.broken:
            raise self.error("secret of the engine")
        return super().score(blocks)
