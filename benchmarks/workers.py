"""Two workers on two cores against one on one: what `--workers` is worth.

    make bench-workers

h2load posts lists over 16 connections, two in flight on each, in a closed loop. One
worker has a core to itself, and the load has the other. Two workers and the load share
both cores, so the ratio of the two rates (`as measured`) charges two workers for all of
the load's CPU time; where a list takes long to score that is little. The other ratio
(`per CPU time`) is that of the lists ranked per second of the server's own CPU time,
times two cores: what the workers would do if the load came from elsewhere. Beside them
the bare engine, in one process and in two at once, says what the two cores are worth.

Four processes of h2load send a list each, again and again. The simd engine walks a list
without branches, so there is nothing in that for a branch predictor to learn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import h2load
from benchmarks.closed_loop import RANK
from benchmarks.ranker_server import RankerServer
from benchmarks.server import CACHE, FEATURES, rows_and_booster
from ranker import Model, export_onnx
from ranker.metrics import catalogue as catalog
from ranker.v1 import ranking_pb2 as pb

CASES = ((1000, "onnx"), (1000, "simd"), (100, "simd"), (10, "simd"))
"""Candidates of a list, and the engine."""
TREES = 500
LISTS, CONNECTIONS, IN_FLIGHT = 4, 4, 2
"""Processes of h2load, connections of each, and calls in flight on each of these."""


@dataclass(frozen=True)
class Figures:
    """What one measurement gave.

    Attributes:
        rate: lists scored per second; a batch may hold parts of one.
        server: cores that the server was busy on.
        load: cores that the load was busy on.
        least: the share of the scoring that the less busy worker did.
    """

    rate: float
    server: float
    load: float
    least: float

    @property
    def per_cpu(self) -> float:
        """Lists per second of the server's CPU time."""
        return self.rate / self.server


def measure(
    model: Path,
    rows: NDArray[np.float32],
    workers: int,
    candidates: int,
    engine: str,
    seconds: float,
) -> Figures:
    """Loads a server for so long.

    Raises:
        RuntimeError: a list was refused.
    """
    lists = [
        pb.RankRequest(
            candidates=pb.Matrix(
                rows=candidates,
                columns=FEATURES,
                data=rows[i * candidates : (i + 1) * candidates].astype("<f4").tobytes(),
            )
        ).SerializeToString()
        for i in range(LISTS)
    ]
    chosen = ["--workers", str(workers), "--engine", engine]
    cores = {0} if workers == 1 else {0, 1}
    with RankerServer(cores, model, *chosen) as server:

        def load(seconds: float) -> h2load.Load:
            return h2load.run(
                server.address,
                RANK,
                [[each] for each in lists],
                clients=CONNECTIONS,
                streams=IN_FLIGHT,
                seconds=seconds,
                cores={1} if workers == 1 else {0, 1},
            )

        load(0.5)
        before, cpu = server.scrape(), server.cpu_seconds()
        done = load(seconds)
        cpu = server.cpu_seconds() - cpu
        after = server.scrape()

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    ended = {code: grown(catalog.REQUESTS.name, code=code) for code in ("OK", "CANCELLED")}
    # h2load cancels what is in flight when its time is over.
    if done.calls > ended["OK"] or sum(ended.values()) != grown(catalog.REQUESTS.name):
        raise RuntimeError(f"{done.calls} answers, but the server says {ended}")
    busy = [grown(catalog.ENGINE_BUSY.name, worker=str(i)) for i in range(workers)]
    rate = grown(catalog.CANDIDATES_SCORED.name) / candidates / done.seconds
    least = min(busy) / sum(busy)
    return Figures(rate, cpu / done.seconds, done.cpu / done.seconds, least)


def score(path: Path, seconds: float) -> int:
    """Rows that the bare engine scores in so many seconds."""
    engine = Model.load(path).engine
    rows, _ = rows_and_booster()
    blocks = [rows[i : i + 1000] for i in range(0, len(rows), 1000)]
    scored = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        engine.score([blocks[scored // 1000 % len(blocks)]])
        scored += 1000
    return scored


def ceiling(path: Path, seconds: float) -> float:
    """How much more two processes with the bare engine score on two cores than one on one."""

    def scored(cores: list[int]) -> int:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.workers", "--score", str(path)]
                + ["--seconds", str(seconds)],
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
            )
            for core in cores
        ]
        return sum(int(process.communicate()[0]) for process in processes)

    return 2 * scored([0, 1]) / (scored([0]) + scored([1]))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        print(score(options.score, options.seconds))
        return
    model = CACHE / f"{TREES}-trees.onnx"
    rows, booster = rows_and_booster()
    if not model.exists():
        export_onnx(booster, model, iteration_range=(0, TREES))
    found: dict[tuple[int, str, int], list[Figures]] = {}
    ceilings = []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        ceilings.append(ceiling(model, options.seconds))
        for candidates, engine in CASES:
            for workers in (1, 2):
                figures = measure(model, rows, workers, candidates, engine, options.seconds)
                found.setdefault((candidates, engine, workers), []).append(figures)

    print(f"\nlists of {FEATURES} features, {TREES} trees of depth 6\n")
    print("| candidates | engine | workers | lists/s | server, cores | load, cores | less busy |")
    print("|---|---|---|---|---|---|---|")
    for (candidates, engine, workers), runs in found.items():
        cells = " | ".join(
            f"{statistics.median(getattr(run, field) for run in runs):{form}}"
            for field, form in (("rate", ",.0f"), ("server", ".2f"), ("load", ".2f"))
        )
        least = f"{min(run.least for run in runs):.0%}" if workers > 1 else ""
        print(f"| {candidates} | {engine} | {workers} | {cells} | {least} |")
    print("\n| candidates | engine | as measured | per CPU time |\n|---|---|---|---|")
    for candidates, engine in CASES:
        pairs = list(zip(found[candidates, engine, 1], found[candidates, engine, 2], strict=True))
        measured = statistics.median(two.rate / one.rate for one, two in pairs)
        per_cpu = statistics.median(2 * two.per_cpu / one.per_cpu for one, two in pairs)
        print(f"| {candidates} | {engine} | {measured:.2f} | {per_cpu:.2f} |")
    print(f"\nthe bare engine, in two processes against one: {statistics.median(ceilings):.2f}")


if __name__ == "__main__":
    main()
