"""What a transport costs: server CPU per request of an echo, as ratios in one run.

    python -m benchmarks.transport

The handler of `transport_echo.py` decodes a list of 100 x 64 (25.6 kB), looks
at its rows and answers with 100 scores, on each transport; `echo.py`, written by
hand for grpc.aio, does the same as the floor, E. One core serves, the other
loads. Each round measures every server once and the table gives medians over
the rounds of each figure and of its ratio to E in the same round.

Loads: `callers` are Python ones, in a closed loop, which leave a fast server
waiting; `h2load` (Debian: nghttp2-client) is cheap enough to keep it busy. A
`stream` of the callers is one RankStream call; h2load has four of them, sends
100 requests on each as fast as it is let, and then makes the next. E is always
unary.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import closed_loop, h2load
from benchmarks.pinned import PinnedServer
from ranker.v1 import ranking_pb2 as pb

SERVER_CORE, LOAD_CORE = 0, 1
CANDIDATES, FEATURES = 100, 64

SERVERS = {
    "grpc.aio, by hand": ("-m", "benchmarks.echo"),
    "aio": ("-m", "benchmarks.transport_echo", "aio"),
    "core, gRPC's threads read": ("-m", "benchmarks.transport_echo", "core", "--own-readers"),
    "core": ("-m", "benchmarks.transport_echo", "core"),
}
FLOOR = "grpc.aio, by hand"


def encoded_requests(count: int) -> list[bytes]:
    """Requests of the size in question, with their positions as ids."""
    random = np.random.default_rng(5)
    return [
        pb.RankRequest(
            request_id=str(position),
            candidates=pb.Matrix(
                rows=CANDIDATES,
                columns=FEATURES,
                data=random.normal(size=(CANDIDATES, FEATURES)).astype("<f4").tobytes(),
            ),
        ).SerializeToString()
        for position in range(count)
    ]


Load = Callable[[str], int]
"""Loads the server at an address; returns how many requests it has answered."""


def callers(
    requests: Sequence[bytes], concurrency: int, seconds: float, *, streaming: bool
) -> Load:
    """Python callers in a closed loop."""

    def load(address: str) -> int:
        return closed_loop.run(
            address,
            requests,
            concurrency=concurrency,
            seconds=seconds,
            check=lambda *_: None,
            streaming=streaming,
        ).requests

    return load


def h2load_calls(requests: Sequence[bytes], concurrency: int, seconds: float, method: str) -> Load:
    """The same call over and over, with all of the requests, by a program in C."""

    def load(address: str) -> int:
        done = h2load.run(
            address,
            method,
            [requests],
            clients=1,
            streams=concurrency,
            seconds=seconds,
            cores={LOAD_CORE},
        )
        return done.calls * len(requests)

    return load


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transport",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    os.sched_setaffinity(0, {LOAD_CORE})
    requests = encoded_requests(256)
    loads: dict[str, Load] = {}
    for n in (8, 32):
        loads[f"callers, {n}"] = callers(requests, n, options.seconds, streaming=False)
        if shutil.which("h2load"):
            loads[f"h2load, {n}"] = h2load_calls(requests[:1], n, options.seconds, closed_loop.RANK)
        loads[f"stream, callers, {n}"] = callers(requests, n, options.seconds, streaming=True)
    if shutil.which("h2load"):
        stream = closed_loop.RANK_STREAM
        loads["stream, h2load, 4 x 100"] = h2load_calls(requests[:100], 4, options.seconds, stream)

    costs: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        for server, arguments in SERVERS.items():
            with PinnedServer(SERVER_CORE, *arguments) as running:
                callers(requests, 8, 0.5, streaming=False)(running.address)
                for name, load in loads.items():
                    if server == FLOOR and name.startswith("stream"):
                        continue  # it has no streams
                    before = running.cpu_seconds()
                    answered = load(running.address)
                    cost = (running.cpu_seconds() - before) / answered * 1e6
                    costs.setdefault((server, name), []).append(cost)

    print("\nserver CPU per request in us (and as a share of E under the same load)\n")
    print("| load, in flight | " + " | ".join(SERVERS) + " |")
    print("|---" * (1 + len(SERVERS)) + "|")
    for name in loads:
        floor = costs[FLOOR, name.removeprefix("stream, ").replace("4 x 100", "32")]
        cells = []
        for server in SERVERS:
            found = costs.get((server, name))
            if found is None:
                cells.append("")
                continue
            ratio = statistics.median(cost / e for cost, e in zip(found, floor, strict=True))
            cells.append(f"{statistics.median(found):.0f} ({ratio:.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
