"""A client process with requests in flight, to be killed: says `sent` and waits for it.

python -m benchmarks.soak.victim ADDRESS FOLDER SEED
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.closed_loop import RANK
from benchmarks.soak.callers import Desk
from benchmarks.soak.queries import Queries
from benchmarks.soak.tally import Tally

UNARY, STREAMED = 20, 50
REQUESTS = UNARY + STREAMED
"""Ranking requests that it makes, at most."""


def main() -> None:
    """Sends, and hangs."""
    address, folder, seed = sys.argv[1:]
    desk = Desk(address, Queries(Path(folder)), Tally(), np.random.default_rng(int(seed)))
    queries = [desk.queries.draw(desk.dice, "rest") for _ in range(REQUESTS)]
    messages = [desk.queries.encode(query, str(i)) for i, query in enumerate(queries)]

    def nothing() -> Iterator[bytes]:
        threading.Event().wait()
        yield b""

    calls: list[object] = [desk.rank(message, None) for message in messages[:UNARY]]
    calls.append(desk.stream(messages[UNARY:]))
    calls.append(desk.channel.stream_unary(RANK).future(nothing()))
    print("sent", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
