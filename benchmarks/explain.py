"""How fast scores are explained, beside XGBoost's own `pred_contribs`: `make bench-explain`.

One thread each, in turns, and CPU seconds of that thread, so that what else the
machine does hits both alike; compare the ratios. Explanations that differ by more
than 1e-5 of the scores' range are not timed.
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import xgboost as xgb

from benchmarks.engine import SPECS, make_rows, processor, train
from ranker.engine.api import Contributions, Rows
from ranker.engine.simd import engine as simd
from ranker.engine.simd.engine import PATH_VARIABLE
from ranker.engine.simd.explainer import SimdExplainer
from ranker.export import export_onnx
from ranker.forest import Forest
from ranker.forest.onnx import read_forest

SIZES = (1, 3, 10, 100, 1000)
POOL_ROWS = 4000
TOLERANCE = 1e-5

Explain = Callable[[Rows], Contributions]


def our_explainers(forest: Forest) -> dict[str, Explain]:
    """Ours on every instruction path that this machine has, by the path's name."""
    found = {}
    for path in simd.paths():
        os.environ[PATH_VARIABLE] = path
        found[path] = _explain_with(SimdExplainer(forest))
    return found


def _explain_with(explainer: SimdExplainer) -> Explain:
    return lambda rows: explainer.explain([rows])


def by_xgboost(booster: xgb.Booster) -> Explain:
    """XGBoost's own, on one thread."""

    def explain(rows: Rows) -> Contributions:
        found: Contributions = booster.predict(xgb.DMatrix(rows, nthread=1), pred_contribs=True)
        return found

    return explain


def seconds_per_call(explain: Explain, pool: Rows, n: int, seconds: float) -> float:
    """The median of as many calls as fit, on other rows each time."""
    took: list[float] = []
    starts = itertools.cycle(range(0, len(pool) - n + 1, n))
    end = time.perf_counter() + seconds
    while not took or (time.perf_counter() < end and len(took) < 1000):
        begin = next(starts)
        rows = pool[begin : begin + n]
        clock = time.thread_time()
        explain(rows)
        took.append(time.thread_time() - clock)
    return statistics.median(took)


def check(explainers: dict[str, Explain], want: Contributions, rows: Rows) -> None:
    """Refuses to time what isn't right."""
    limit = TOLERANCE * float(np.ptp(want.sum(axis=1)))
    for path, explain in explainers.items():
        difference = float(np.abs(explain(rows) - want).max())
        if difference > limit:
            sys.exit(f"{path}: explanations differ from XGBoost's by {difference}")


@click.command()
@click.option("--models", type=Path, default=Path("build/bench-engine"), show_default=True)
@click.option("--only", multiple=True, help="Names of models; default: all.")
@click.option("--seconds", default=0.5, show_default=True, help="Time for each number.")
def main(models: Path, only: tuple[str, ...], seconds: float) -> None:
    """Prints a table: milliseconds of each path and of XGBoost, and how many times as long."""
    if simd.unavailable():
        sys.exit(f"simd: {simd.unavailable()}")
    paths = simd.paths()
    print(f"{processor()}; Python {platform.python_version()}, XGBoost {xgb.__version__}")
    print(f"| model | n | {' ms | '.join(paths)} ms | xgboost ms | xgboost / {paths[0]} |")
    print("|---" * (4 + len(paths)) + "|")
    for spec in SPECS:
        if only and spec.name not in only:
            continue
        booster = train(spec, models)
        onnx_file = models / f"{spec.name}-covers.onnx"
        if not onnx_file.exists():
            export_onnx(booster, onnx_file)
        explainers = our_explainers(read_forest(onnx_file))
        pool = make_rows(np.random.default_rng(1), POOL_ROWS, spec.features, 0.2)
        theirs = by_xgboost(booster)
        check(explainers, theirs(pool[:20]), pool[:20])
        for n in SIZES:
            took = [seconds_per_call(explainers[path], pool, n, seconds) for path in paths]
            peer = seconds_per_call(theirs, pool, n, seconds)
            cells = " | ".join(f"{1e3 * each:.3f}" for each in [*took, peer])
            print(f"| {spec.name} | {n} | {cells} | {peer / took[0]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
