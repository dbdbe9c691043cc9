"""What no caller can bring about at will: the loop's thread and an engine's in one call at once."""

from __future__ import annotations

import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from ranker.transport import core_api as grpcio
from ranker.transport import core_call

pytestmark = pytest.mark.skipif(grpcio.unavailable() is not None, reason="needs grpcio's core")


class Core:
    """An RPC on which batches start, and never complete."""

    def start_server_batch(self, operations: tuple[Any, ...], tag: Any) -> int:  # noqa: ARG002
        return 0


class Interrupted(core_call.StreamCall):
    """A call that ends while a second message is put behind the first."""

    ended: threading.Thread | None = None

    @property
    def _outgoing(self) -> deque[bytes] | None:
        waiting: deque[bytes] | None = self.__dict__["_outgoing"]
        if waiting is not None and self.ended is None:
            over = SimpleNamespace(batch_operations=[SimpleNamespace(cancelled=lambda: True)])
            self.ended = threading.Thread(target=self._over, args=(over,))
            self.ended.start()
            self.ended.join(0.2)  # it has to wait for us, so this is in vain
            waiting = self.__dict__["_outgoing"]
        return waiting

    @_outgoing.setter
    def _outgoing(self, waiting: deque[bytes] | None) -> None:
        self.__dict__["_outgoing"] = waiting


def test_a_call_may_end_while_an_engine_sends():
    handler = SimpleNamespace(opened=None, message=None, half_closed=None, closed=lambda _: None)
    route = core_call.Route("/a.B/C", handler, True, None)
    call = Interrupted(core_call.Turn(), route, Core(), (), 0.0)
    call._outgoing = None
    call.send(b"one")
    call.send(b"two")
    assert call.ended is not None
    call.ended.join()
    call.send(b"three")
    assert call.cancelled
    assert call._outgoing is None
