"""What a second thread gives for one large batch, and the most it could: `make bench-threads`.

All are measured in turns, in one run. The ceiling is what two cores score in
the same time as one: an engine of one thread on one core, while a process with
its own does the same on the other. Cores that share what they are made of, or
a machine that is busy, give less than 2. Calls follow each other at once, when
the helper is still awake, or come after a pause, when it sleeps; then the
caller's own core has slept, too.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import numpy as np

from benchmarks.engine import SPECS, make_rows, processor, train
from ranker.engine.api import Rows
from ranker.engine.simd.engine import SimdEngine
from ranker.export import export_onnx
from ranker.forest.onnx import read_forest

POOL_ROWS = 40_000
PAUSES = {"at once": 0.0, "3 ms apart": 0.003}
SETTLE = 0.003
MODELS = ("500x6", "1000x8", "300x10-uneven")


def batches(features: int, n: int) -> Iterator[Rows]:
    """Batches of n rows, other ones than last time: more than a cache holds."""
    pool = make_rows(np.random.default_rng(1), POOL_ROWS, features, missing=0.2)
    return itertools.cycle([pool[begin : begin + n] for begin in range(0, POOL_ROWS - n + 1, n)])


def neighbour(model: Path, n: int, core: int, ready: Event, busy: Event, end: Event) -> None:
    """Scores on a core of its own while `busy` is set."""
    os.sched_setaffinity(0, {core})
    forest = read_forest(model)
    engine = SimdEngine(forest)
    blocks = batches(forest.num_features, n)
    ready.set()
    while busy.wait() and not end.is_set():
        engine.score([next(blocks)])


def seconds(engine: SimdEngine, blocks: Iterator[Rows], calls: int, pause: float = 0) -> float:
    """Wall seconds of a call, the median of several; the first one only wakes helpers."""
    took = []
    for _ in range(calls + 1):
        block = next(blocks)
        if pause:
            time.sleep(pause)
        begin = time.perf_counter()
        engine.score([block])
        took.append(time.perf_counter() - begin)
    return statistics.median(took[1:])


def measure(model: Path, n: int, duration: float) -> dict[str, float]:
    """Lower quartiles of the seconds per call, by what was measured."""
    cores = os.sched_getaffinity(0)
    own, other = sorted(cores)[:2]
    context = multiprocessing.get_context("spawn")
    ready, busy, end = context.Event(), context.Event(), context.Event()
    process = context.Process(target=neighbour, args=(model, n, other, ready, busy, end))
    process.start()
    forest = read_forest(model)
    one, two = SimdEngine(forest), SimdEngine(forest, threads=2)
    blocks = batches(forest.num_features, n)
    ready.wait()
    calls = 3 + int(4e-3 / seconds(one, blocks, 5))
    took: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        took.setdefault(name, []).append(value)

    stop = time.perf_counter() + duration
    while time.perf_counter() < stop:
        os.sched_setaffinity(0, {own})
        note("alone", seconds(one, blocks, calls))
        busy.set()
        time.sleep(SETTLE)
        note("beside", seconds(one, blocks, calls))
        busy.clear()
        time.sleep(SETTLE + 2 * took["beside"][-1])  # it may have begun another batch
        os.sched_setaffinity(0, cores)
        for when, pause in PAUSES.items():
            note(f"one, {when}", seconds(one, blocks, calls, pause))
            note(f"two, {when}", seconds(two, blocks, calls, pause))
    end.set()
    busy.set()
    process.join()
    return {name: statistics.quantiles(values)[0] for name, values in took.items()}


@click.command()
@click.option("--models", type=Path, default=Path("build/bench-engine"), show_default=True)
@click.option("--seconds", "duration", default=8.0, show_default=True, help="Time for each line.")
def main(models: Path, duration: float) -> None:
    """Prints a table of how many times as fast two threads are as one."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        sys.exit("needs Linux and two cores")
    print(f"{processor()}\n")
    print(f"| model | rows | 1 thread, µs | ceiling | {' | '.join(PAUSES)} |")
    print("|---" * 6 + "|")
    for spec in SPECS:
        if spec.name not in MODELS:
            continue
        model = models / f"{spec.name}.onnx"
        if not model.exists():
            export_onnx(train(spec, models), model)
        for n in (1000, 2000, 10000):
            took = measure(model, n, duration)
            gains = [took[f"one, {when}"] / took[f"two, {when}"] for when in PAUSES]
            print(
                f"| {spec.name} | {n} | {took['one, at once'] * 1e6:.0f} "
                f"| {2 * took['alone'] / took['beside']:.2f} "
                f"| {gains[0]:.2f} | {gains[1]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
