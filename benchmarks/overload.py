"""Goodput under overload: answers within the deadline, at loads up to 3x what the server can do.

    make bench-overload

An open-loop (Poisson) load is stepped from half of the capacity, which a closed
loop finds first, to three times as much, and back to half to see how soon the
server recovers. One core serves, the other loads. Calls carry the deadline,
so an answer that is too late counts as none.
"""

from __future__ import annotations

import argparse
import itertools
import os
from dataclasses import replace

from benchmarks.pinned import PinnedServer
from benchmarks.server import CACHE, LOAD_CORE, SERVER_CORE, rows_and_booster
from loadtests.callers import UnaryCaller
from loadtests.generator import closed_loop, open_loop, run
from loadtests.measurement import Measurement
from loadtests.traffic import Request
from ranker import export_onnx

STEPS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 0.5)


async def _measure(
    address: str, requests: list[Request], seconds: float, steps: tuple[float, ...]
) -> tuple[float, list[Measurement]]:
    traffic = itertools.cycle(requests)
    patient = itertools.cycle([replace(request, timeout=60.0) for request in requests])
    async with UnaryCaller(address) as caller:
        await closed_loop(caller, patient, 32, 1.0)
        capacity = (await closed_loop(caller, patient, 32, seconds)).rate
        found = [await open_loop(caller, traffic, capacity * step, seconds) for step in steps]
    return capacity, found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="per step")
    parser.add_argument("--engine", default="onnx", help="a slow one lets one core overload it")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    parser.add_argument("--transport", default="auto")
    options = parser.parse_args()

    rows, booster = rows_and_booster()
    path = CACHE / "500-trees.onnx"
    if not path.exists():
        export_onnx(booster, path)
    os.sched_setaffinity(0, {LOAD_CORE})
    size = options.candidates
    requests = [
        Request(rows[i : i + size], options.deadline_ms / 1e3, top_k=0)
        for i in range(0, min(len(rows), 256 * size) - size + 1, size)
    ]
    arguments = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]
    chosen = ["--engine", options.engine, "--transport", options.transport]
    with PinnedServer(
        SERVER_CORE, "-m", "ranker", "serve", str(path), *arguments, *chosen
    ) as server:
        before = server.rss()
        capacity, found = run(lambda: _measure(server.address, requests, options.seconds, STEPS))
        grown = server.rss() - before
    print(
        f"{options.candidates} candidates x 500 trees, engine {options.engine}, "
        f"deadline {options.deadline_ms:g} ms; capacity {capacity:.0f}/s\n"
    )
    print("| load | offered/s | goodput/s | of best | p50 ms | p99 ms | failures | generator |")
    print("|---|---|---|---|---|---|---|---|")
    goodput = [(each.sent - each.failures) / each.seconds for each in found]
    for step, each, good in zip(STEPS, found, goodput, strict=True):
        print(
            f"| {step:g}x | {each.offered:.0f} | {good:.0f} | {good / max(goodput):.2f} "
            f"| {each.latency.percentile(50) * 1e3:.1f} | {each.latency.percentile(99) * 1e3:.1f} "
            f"| {dict(each.failed)} | {each.bottleneck or 'fine'} |"
        )
    print(f"\nresident memory grew by {grown / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
