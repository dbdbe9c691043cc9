"""The echo server of `transport.py`: `transport_echo.py TRANSPORT [--own-readers]`.

With `--own-readers`, gRPC's own threads read the sockets, as they do by default.
"""

from __future__ import annotations

import os
import signal
import sys

from ranker.transport import environment

if "--own-readers" not in sys.argv:
    environment.prepare()

import numpy as np

from ranker.errors import Code
from ranker.process.heap import keep_freed_memory
from ranker.rpc import Call, Handler, Method
from ranker.transport.registry import select
from ranker.v1 import ranking_pb2 as pb

SCORES = 100
SERVICE = "/ranker.v1.RankingService"


class Echo(Handler):
    """Collects requests; the pump answers them, as it does in the real server."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Call, bytes]] = []

    def message(self, call: Call, data: bytes) -> bool:
        """Takes a request."""
        self._waiting.append((call, data))
        return True

    def half_closed(self, call: Call) -> None:
        """Ends a stream."""
        call.finish()

    def pump(self) -> None:
        """Answers all that wait."""
        for call, data in self._waiting:
            if call.method.endswith("Stream"):
                call.send(_answer(data))
            else:
                call.finish(_answer(data))
        self._waiting.clear()


def _answer(data: bytes) -> bytes:
    request = pb.RankRequest.FromString(data)
    matrix = request.candidates
    rows = np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.columns)
    scores = rows.ravel()[:SCORES]
    return pb.RankResponse(
        request_id=request.request_id, indices=range(len(scores)), scores=scores.tolist()
    ).SerializeToString()


class Counts:
    """Where the transport counts its RPCs; nobody looks."""

    def __init__(self) -> None:
        self.in_flight = [0.0]

    def ended(self, method: str) -> list[float]:  # noqa: ARG002
        """Of any method."""
        return [0.0] * len(Code)


def main() -> None:
    """Serves until SIGTERM; prints the port."""
    keep_freed_memory()
    echo = Echo()
    methods = {
        f"{SERVICE}/Rank": Method(echo),
        f"{SERVICE}/RankStream": Method(echo, request_streaming=True, response_streaming=True),
    }
    counts = Counts()
    server = select(sys.argv[1]).make(methods, echo.pump, counts, max_message_bytes=2**22)
    signal.signal(signal.SIGTERM, lambda *_: server.leave())
    print(f"listening on 127.0.0.1:{server.bind('127.0.0.1:0')}", flush=True)
    server.run()
    os._exit(0)


if __name__ == "__main__":
    main()
