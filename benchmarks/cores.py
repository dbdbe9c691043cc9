"""What a second core gives: to two workers, and to two threads that share one large batch.

Beside both is what it gives to two processes with the bare engine, which is the most to be had.

workers: h2load (Debian: nghttp2-client) keeps two calls in flight on each of 16 connections. One
worker has a core to itself, and the load has the other. Two workers and the load share both cores,
so "as measured" charges two workers for all of the load's CPU time. "Per CPU time" compares lists
ranked per second of the server's own CPU time, times two cores: as if the load came from elsewhere.

threads: calls follow each other at once, when the helper is still awake, or come after a pause,
when it sleeps; then the caller's own core has slept, too. Needs two cores.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

import click
import numpy as np

from benchmarks.engine import SPECS
from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained, make_rows
from benchmarks.harness.engines import ceiling
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request, Rows
from ranker.engine.simd.engine import SimdEngine
from ranker.forest.onnx import read_forest
from ranker.metrics import catalogue

CASES = ((1000, "onnx"), (1000, "simd"), (100, "simd"), (10, "simd"))
"""Candidates of a list, and the engine."""
MODELS = [spec for spec in SPECS if spec.name in ("500x6", "1000x8", "300x10-uneven")]
SIZES = (1000, 2000, 10000)
PAUSES = {"at once": 0.0, "3 ms apart": 0.003}


def loaded(server: RankerServer, requests: list[Request], seconds: float) -> dict[str, float]:
    """What a server does; `least` is the share of the scoring that the least busy worker did."""
    for length in (cost.WARM_UP_SECONDS, seconds):
        before, ranked, cpu = server.scrape(), cost.answered(server), server.cpu_seconds()
        done = cost.flat_out(server, requests, length)
        cpu, ranked = server.cpu_seconds() - cpu, cost.answered(server) - ranked
    after, name = server.scrape(), catalogue.ENGINE_BUSY.name
    workers = map(str, range(round(after.total(catalogue.WORKERS.name)) or 1))
    busy = [after.total(name, worker=each) - before.total(name, worker=each) for each in workers]
    return {
        "lists/s": ranked / done.seconds,
        "server, cores": cpu / done.seconds,
        "load, cores": done.cpu / done.seconds,
        "lists per CPU s": ranked / cpu,
        "least": min(busy) / sum(busy),
    }


def workers(report: Report, seconds: float, rounds: int) -> None:
    """Prints two tables."""
    h2load.required()
    first, second, *_ = machine.cores()
    trained, found, bare = Trained(SERVED), Rounds(), Rounds()
    model, places = trained.onnx(), ((1, {first}, {second}), (2, {first, second}, {first, second}))
    for _ in report.rounds(rounds):
        bare.note("1000, simd", {"two processes against one": ceiling(model, 1000, seconds)})
        for candidates, engine in CASES:
            requests = trained.requests(candidates, count=cost.LISTS)
            for count, own, others in places:
                options = (str(model), "--workers", str(count), "--engine", engine)
                with RankerServer(*options, cores=own) as server, machine.on_cores(*others):
                    figures = loaded(server, requests, seconds)
                found.note(f"{candidates}, {engine}, {count}", figures)
    found.show(report, "candidates, engine, workers")
    table = report.table("candidates, engine", "two workers, as measured", "per CPU time")
    for candidates, engine in CASES:
        two, one = f"{candidates}, {engine}, 2", f"{candidates}, {engine}, 1"
        per_cpu = 2 * found.ratio(two, one, "lists per CPU s")
        table.row(f"{candidates}, {engine}", found.ratio(two, one, "lists/s"), per_cpu)
    bare.show(report, "bare engine")


def timed(engine: SimdEngine, blocks: Iterator[Rows], calls: int, pause: float = 0) -> float:
    """Wall seconds of a call, the median of several; the first one only wakes helpers."""
    took = []
    for block in itertools.islice(blocks, calls + 1):
        time.sleep(pause)
        begin = time.perf_counter()
        engine.score([block])
        took.append(time.perf_counter() - begin)
    return statistics.median(took[1:])


def threads(report: Report, seconds: float, rounds: int) -> None:
    """Prints how many times as fast two threads are as one, measured in turns."""
    table = report.table("model", "rows", "1 thread µs", "ceiling", *PAUSES)
    for spec, n in itertools.product(MODELS, SIZES):
        model = Trained(spec).onnx()
        forest = read_forest(model)
        one, two = SimdEngine(forest), SimdEngine(forest, threads=2)
        pool = make_rows(np.random.default_rng(1), 40_000, forest.num_features, 0.2)
        blocks = itertools.cycle([pool[i : i + n] for i in range(0, len(pool) - n + 1, n)])
        calls = 3 + int(4e-3 / timed(one, blocks, 5))
        took: dict[tuple[int, str], list[float]] = {}
        end = time.monotonic() + seconds * rounds / 2
        while time.monotonic() < end:
            for when, pause in PAUSES.items():
                for count, engine in ((1, one), (2, two)):
                    took.setdefault((count, when), []).append(timed(engine, blocks, calls, pause))
        best = {key: statistics.quantiles(times)[0] for key, times in took.items()}
        gains = (best[1, when] / best[2, when] for when in PAUSES)
        most = ceiling(model, n, seconds * rounds / 6)
        table.row(spec.name, n, best[1, "at once"] * 1e6, most, *gains)


PARTS = {"workers": workers, "threads": threads}


@command
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), default=list(PARTS))
@click.option("--seconds", default=3.0, help="For each figure and round.")
@click.option("--rounds", default=3)
def main(report: Report, parts: tuple[str, ...], seconds: float, rounds: int) -> None:
    """Measures part by part."""
    for part in parts:
        PARTS[part](report, seconds, rounds)
