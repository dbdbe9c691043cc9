"""Goodput under overload: answers within the deadline, at loads up to 3x what the server can do.

    make bench-overload

h2load (Debian: nghttp2-client) finds the capacity in a closed loop, then offers from half of
it to three times as much in an open one (Poisson); at last it falls from three times to half
of it, to see how soon the server recovers. One core serves, the other loads. Calls carry
the deadline.

h2load reads no status. So an answer counts as good if the server sent it, and as many are
taken off as calls took longer than the deadline, but for those that the server itself ended
then: goodput is at least what is printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np

from benchmarks import h2load
from benchmarks.closed_loop import RANK
from benchmarks.half_load import WARM_UP_SECONDS, flat_out
from benchmarks.ranker_server import RankerServer
from benchmarks.server import CACHE, LOAD_CORE, SERVER_CORE, rows_and_booster
from ranker import export_onnx
from ranker.client.request import rank_request

STEPS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
LISTS = 32
RECOVERY_SECONDS = 1.0
"""After so long all is to be as before."""


@dataclass(frozen=True)
class Case:
    """A slow engine, or large lists: what one core can send too much of."""

    engine: str
    candidates: int


CASES = (Case("onnx", 100), Case("simd", 1000))


@dataclass(frozen=True)
class Step:
    """What one load gave.

    Attributes:
        offered: calls per second.
        goodput: answers per second within the deadline, at the least.
        codes: how many requests ended how.
        late: the share of the calls that took longer than the deadline, refused ones aside.
        p50: of the latency of all calls, in seconds.
        p99: likewise.
        server: cores that it was busy on.
        load: cores that the generator was busy on.
    """

    offered: float
    goodput: float
    codes: Counter[str]
    late: float
    p50: float
    p99: float
    server: float
    load: float


class Bench:
    """A server and what is sent to it."""

    def __init__(self, server: RankerServer, lists: Sequence[bytes], deadline: float) -> None:
        self.server = server
        self._lists = lists
        self._deadline = deadline

    def capacity(self, seconds: float) -> float:
        """Answers per second to patient callers."""
        done = flat_out(self.server, self._lists, seconds, {LOAD_CORE})
        return done.calls / done.seconds

    def offer(self, rate: float, seconds: float) -> Step:
        """One load."""
        before, worked, loaded = self.server.codes(), self.server.cpu_seconds(), _children()
        calls = self._calls([(rate, seconds)])
        worked, loaded = self.server.cpu_seconds() - worked, _children() - loaded
        codes = self.server.codes() - before
        took = calls[-1].sent - calls[0].sent
        latencies = [call.latency for call in calls]
        late = sum(latency > self._deadline for latency in latencies)
        p50, p99 = np.percentile(latencies, (50, 99))
        return Step(
            offered=len(calls) / took,
            goodput=max(0, codes["OK"] - max(0, late - codes["DEADLINE_EXCEEDED"])) / took,
            codes=codes,
            late=late / max(1, len(calls) - codes["RESOURCE_EXHAUSTED"]),
            p50=float(p50),
            p99=float(p99),
            server=worked / took,
            load=loaded / took,
        )

    def falls(self, high: float, low: float, seconds: float) -> tuple[int, int]:
        """From a high to a low load: calls that failed or were late when it should be over."""
        recovered: list[Counter[str]] = []

        def look() -> None:
            time.sleep(h2load.START_SECONDS + seconds + RECOVERY_SECONDS)
            recovered.append(self.server.codes())

        looking = threading.Thread(target=look)
        looking.start()
        calls = self._calls([(high, seconds), (low, seconds + RECOVERY_SECONDS)])
        looking.join()
        codes = self.server.codes() - recovered[0]
        begin = calls[0].sent + seconds + RECOVERY_SECONDS
        late = sum(call.sent > begin and call.latency > self._deadline for call in calls)
        return codes.total(), codes.total() - codes["OK"] + late

    def _calls(self, stretches: Sequence[tuple[float, float]]) -> list[h2load.Call]:
        return h2load.open_loop(
            self.server.address,
            RANK,
            self._lists,
            stretches=stretches,
            cores={LOAD_CORE},
            timeout=self._deadline,
        )


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(case: Case, bench: Bench, seconds: float, rounds: int) -> None:
    """Prints one case's table."""
    bench.capacity(WARM_UP_SECONDS)
    capacity = bench.capacity(seconds)
    print(
        f"\n{case.candidates} candidates x 500 trees, engine {case.engine}; "
        f"capacity {capacity:.0f}/s\n\n"
        "| load | offered/s | goodput/s | of best | p50 ms | p99 ms | refused | late, of "
        "the others | server, generator: cores | memory MiB |\n" + "|---" * 10 + "|"
    )
    before = bench.server.rss()
    found: dict[float, list[Step]] = {load: [] for load in STEPS}
    grown: dict[float, list[int]] = {load: [] for load in STEPS}
    for _ in range(rounds):
        for load in STEPS:
            found[load].append(bench.offer(load * capacity, seconds))
            grown[load].append(bench.server.rss() - before)
    best = max(median(step.goodput for step in steps) for steps in found.values())
    for load, steps in found.items():
        goodput = median(step.goodput for step in steps)
        refused = sum(step.codes["RESOURCE_EXHAUSTED"] for step in steps)
        asked = sum(step.codes.total() for step in steps)
        print(
            f"| {median(step.offered for step in steps) / capacity:.2f} "
            f"| {median(step.offered for step in steps):.0f} | {goodput:.0f} "
            f"| {goodput / best:.2f} | {median(step.p50 for step in steps) * 1e3:.1f} "
            f"| {median(step.p99 for step in steps) * 1e3:.1f} | {refused / asked:.0%} "
            f"| {mean(step.late for step in steps):.1%} "
            f"| {median(step.server for step in steps):.2f}, "
            f"{median(step.load for step in steps):.2f} "
            f"| {max(grown[load]) / 2**20:+.0f} |",
            flush=True,
        )
    calls, bad = bench.falls(STEPS[-1] * capacity, STEPS[0] * capacity, seconds)
    print(
        f"\nfrom {RECOVERY_SECONDS:g} s after the load fell from {STEPS[-1]:g} to {STEPS[0]:g} "
        f"times the capacity: {bad} of {calls} calls refused or late"
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="per step")
    parser.add_argument("--rounds", type=int, default=3, help="of all steps; medians are printed")
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    parser.add_argument("--transport", default="auto")
    options = parser.parse_args()

    rows, booster = rows_and_booster()
    path = CACHE / "500-trees.onnx"
    if not path.exists():
        export_onnx(booster, path)
    os.sched_setaffinity(0, {LOAD_CORE})
    for case in CASES:
        size = case.candidates
        lists = [rank_request(rows[i * size : (i + 1) * size], top_k=0) for i in range(LISTS)]
        chosen = ["--engine", case.engine, "--transport", options.transport]
        with RankerServer(SERVER_CORE, path, *chosen) as server:
            measure(
                case,
                Bench(server, lists, options.deadline_ms / 1e3),
                options.seconds,
                options.rounds,
            )


if __name__ == "__main__":
    main()
