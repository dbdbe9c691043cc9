"""Goodput under overload: answers within the deadline, at loads up to 3x what the server can do.

    make bench-overload

A closed loop finds the capacity; then an open loop (Poisson) offers from half of
it to three times as much, and at once half again, to see how soon the server
recovers. One core serves, the other loads. Calls carry the deadline, so an
answer that is too late counts as none. A step in which the generator was short of CPU says
little of the server, and is marked.
"""

# ruff: noqa: E402 - gRPC reads its environment when it is first imported

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from benchmarks import open_loop

open_loop.prepare()

from benchmarks.closed_loop import RANK
from benchmarks.pinned import PinnedServer
from benchmarks.server import CACHE, LOAD_CORE, SERVER_CORE, rows_and_booster
from ranker import export_onnx
from ranker.client.request import rank_request

STEPS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
IN_FLIGHT = 32


@dataclass(frozen=True)
class Case:
    """A slow engine, or large lists: what lets one core overload another."""

    engine: str
    candidates: int


CASES = (Case("onnx", 100), Case("simd", 1000))


def measure(case: Case, messages: list[bytes], path: str, options: argparse.Namespace) -> None:
    """Prints one case's table."""
    arguments = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]
    chosen = ["--engine", case.engine, "--transport", options.transport]
    seconds, deadline = options.seconds, options.deadline_ms / 1e3
    server = PinnedServer(SERVER_CORE, "-m", "ranker", "serve", path, *arguments, *chosen)
    with server:
        generator = open_loop.Generator(server.address, RANK, messages, options.connections)
        generator.capacity(IN_FLIGHT, 1.0)
        capacity = generator.capacity(IN_FLIGHT, seconds)
        before = server.rss()
        found, grown = [], []
        for step in STEPS:
            found.append(generator.open_loop(step * capacity, seconds, deadline))
            grown.append(server.rss() - before)
        after = generator.open_loop(0.5 * capacity, seconds, deadline)
        generator.close()
    print(
        f"\n{case.candidates} candidates x 500 trees, engine {case.engine}, {options.connections} "
        f"connections, deadline {options.deadline_ms:g} ms; capacity {capacity:.0f}/s\n"
    )
    print(
        "| load | offered/s | goodput/s | of best | p50 ms | p99 ms "
        "| refused, late, other | memory MiB | generator |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    best = max(each.goodput for each in found)
    for step, each, more in zip(STEPS, found, grown, strict=True):
        failed = each.failed
        refused, late = failed.pop(8, 0), failed.pop(4, 0)
        print(
            f"| {step:g}x | {step * capacity:.0f} | {each.goodput:.0f} | {each.goodput / best:.2f} "
            f"| {each.answered(0.5) * 1e3:.1f} | {each.answered(0.99) * 1e3:.1f} "
            f"| {refused}, {late}, {failed.total()} | {more / 2**20:+.0f} "
            f"| {each.cpu:.0%}{' the bottleneck' if each.generator_bound else ''} |",
            flush=True,
        )
    normal = 2 * found[0].answered(0.5)
    print(f"\nrecovered {after.recovered(normal):.1f} s after the load fell from 3x to 0.5x")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per step")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    parser.add_argument("--transport", default="auto")
    options = parser.parse_args()

    rows, booster = rows_and_booster()
    path = CACHE / "500-trees.onnx"
    if not path.exists():
        export_onnx(booster, path)
    os.sched_setaffinity(0, {LOAD_CORE})
    del os.environ["GRPC_EXPERIMENTS"]  # it was for this process only
    for case in CASES:
        size = case.candidates
        starts = range(0, min(len(rows), 256 * size) - size + 1, size)
        messages = [rank_request(rows[start : start + size], top_k=0) for start in starts]
        measure(case, messages, str(path), options)


if __name__ == "__main__":
    main()
