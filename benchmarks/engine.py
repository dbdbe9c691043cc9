"""How fast the engines score, side by side in one run: `make bench-engine`.

Every engine scores the same rows with the same models on one thread, in turns,
so that what else the machine does hits all alike; compare the ratios, and pin the
process to one core (`taskset -c 1`). Rows come
from a pool far larger than the branch predictor and the second-level cache can
learn, and no call sees the rows of the call before: with repeated rows, engines
that branch look several times faster than in service.

Models are trained once, on rows with 20 % missing, and kept in --models.
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import xgboost as xgb

from benchmarks.peers import Score, load_peers, versions
from ranker.engine.api import Rows
from ranker.engine.simd import engine as simd
from ranker.engine.simd.engine import PATH_VARIABLE, SimdEngine
from ranker.export import export_onnx
from ranker.forest.onnx import read_forest

TRAINING_ROWS = 8_000
POOL_ROWS = 20_000
SIZES = (1, 10, 50, 100, 1000, 10000)


@dataclass(frozen=True)
class Spec:
    """A model to train."""

    name: str
    trees: int
    features: int = 64
    parameters: dict[str, object] = field(default_factory=dict)


SPECS = (
    Spec("100x6", 100, parameters={"max_depth": 6}),
    Spec("500x6", 500, parameters={"max_depth": 6}),
    Spec("1000x8", 1000, parameters={"max_depth": 8}),
    Spec(
        "300x10-uneven",
        300,
        parameters={"max_depth": 10, "max_leaves": 128, "grow_policy": "lossguide"},
    ),
    Spec("500x7-500-features", 500, features=500, parameters={"max_depth": 7}),
)


def make_rows(rng: np.random.Generator, rows: int, features: int, missing: float) -> Rows:
    """Normally distributed float32 [rows, features], a share of them NaN."""
    values = rng.standard_normal((rows, features), np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    return values


def train(spec: Spec, directory: Path) -> xgb.Booster:
    """The model of a spec, from `directory` if it is there already."""
    path = directory / f"{spec.name}.ubj"
    if not path.exists():
        rng = np.random.default_rng(0)
        rows = make_rows(rng, TRAINING_ROWS, spec.features, missing=0.2)
        known = np.nan_to_num(rows)
        target = known @ rng.normal(size=spec.features) + 3 * np.sin(3 * known[:, 0]) * known[:, 1]
        parameters = {"eta": 0.05, "nthread": len(os.sched_getaffinity(0)), **spec.parameters}
        booster = xgb.train(parameters, xgb.DMatrix(rows, target), spec.trees)
        directory.mkdir(parents=True, exist_ok=True)
        booster.save_model(path)
    booster = xgb.Booster(model_file=path)
    booster.set_param({"nthread": 1})
    return booster


def our_engines(onnx_file: Path) -> dict[str, Score]:
    """Ours on every instruction path that this machine has, by the path's name."""
    forest = read_forest(onnx_file)
    engines: dict[str, Score] = {}
    for path in simd.paths():
        os.environ[PATH_VARIABLE] = path
        engines[path] = _score_with(SimdEngine(forest))
    return engines


def _score_with(engine: SimdEngine) -> Score:
    return lambda rows: engine.score([rows])


def measure(engines: dict[str, Score], pool: Rows, n: int, seconds: float) -> dict[str, float]:
    """Seconds per call of each engine, called in turns for about `seconds`: the lower quartile.

    CPU seconds of the calling thread, as all engines score on it and a shared
    machine may give it to others meanwhile.
    """
    starts = itertools.cycle(range(0, len(pool) - n + 1, max(n, 1)))
    calls = {}
    for name, score in engines.items():  # how many calls take a few milliseconds
        trials = []
        for begin in itertools.islice(starts, 7):
            clock = time.thread_time()
            score(pool[begin : begin + n])
            trials.append(time.thread_time() - clock)
        calls[name] = max(1, round(3e-3 / min(trials)))
    took: dict[str, list[float]] = {name: [] for name in engines}
    order = list(engines)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took["xgboost"]) < 3:
        order.append(order.pop(0))  # so that nobody always follows the same other
        for name in order:
            score = engines[name]
            blocks = [pool[begin : begin + n] for begin in itertools.islice(starts, calls[name])]
            clock = time.thread_time()
            for block in blocks:
                score(block)
            took[name].append((time.thread_time() - clock) / len(blocks))
    return {name: statistics.quantiles(times)[0] for name, times in took.items()}


def check(engines: dict[str, Score], pool: Rows) -> None:
    """Refuses to time an engine of ours that doesn't score as XGBoost does."""
    want = engines["xgboost"](pool)
    for path in simd.paths():
        if not np.array_equal(engines[path](pool), want):
            sys.exit(f"{path}: scores differ from XGBoost's")


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


@click.command()
@click.option("--models", type=Path, default=Path("build/bench-engine"), show_default=True)
@click.option("--only", multiple=True, help="Names of models; default: all.")
@click.option("--seconds", default=1.0, show_default=True, help="Time for each line.")
def main(models: Path, only: tuple[str, ...], seconds: float) -> None:
    """Prints a table: microseconds of the fastest path, and how many times as long others take."""
    if simd.unavailable():
        sys.exit(f"simd: {simd.unavailable()}")
    fastest, *slower = simd.paths()
    print(f"{processor()}; Python {platform.python_version()}, NumPy {np.__version__},")
    print(f"{versions()}; one thread each.")
    for spec in SPECS:
        if only and spec.name not in only:
            continue
        booster = train(spec, models)
        onnx_file = models / f"{spec.name}.onnx"
        if not onnx_file.exists():
            export_onnx(booster, onnx_file)
        engines = our_engines(onnx_file)
        peers = load_peers(booster, models, spec.name)
        engines |= peers
        pairs = [(peer, path) for path in [fastest, *slower] for peer in peers]
        print(f"\n| model | missing | n | {fastest} µs | ns per tree and row | load ms | ", end="")
        print(" | ".join(f"{peer} / {path}" for peer, path in pairs) + " |")
        print("|---" * (6 + len(pairs)) + "|")
        os.environ[PATH_VARIABLE] = fastest
        forest = read_forest(onnx_file)
        begin = time.thread_time()
        SimdEngine(forest)
        load = time.thread_time() - begin
        for missing in (0.0, 0.2):
            pool = make_rows(np.random.default_rng(1), POOL_ROWS, spec.features, missing)
            check(engines, pool[:2000])
            for n in SIZES:
                took = measure(engines, pool, n, seconds)
                ratios = [f"{took[peer] / took[path]:.1f}" for peer, path in pairs]
                each = took[fastest] / n / spec.trees * 1e9
                print(
                    f"| {spec.name} | {missing:.0%} | {n} | {took[fastest] * 1e6:.1f} | {each:.2f} "
                    f"| {load * 1e3:.0f} | {' | '.join(ratios)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
