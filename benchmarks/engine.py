"""How fast the engines score, or explain, side by side in one run.

Every engine scores the same rows with the same models on one thread, in turns, so that what else
the machine does hits all alike; compare the ratios. Rows come from a pool far larger than the
branch predictor and the second-level cache can learn, and no call sees the rows of the call
before: with repeated rows, engines that branch look several times faster than in service.

Ours are first held against XGBoost's own scores, bit for bit. The peers are onnxruntime and
xgboost, and nvforest where it is installed. With --explain it is explanations, which may differ
from XGBoost's own `pred_contribs` by 1e-5 of the scores' range. Models are trained once.
"""

from __future__ import annotations

import itertools
import statistics
import time
from functools import partial
from importlib.util import find_spec

import click
import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from benchmarks.harness import machine
from benchmarks.harness.data import Spec, Trained, make_rows
from benchmarks.harness.engines import PEERS, Score, on_paths
from benchmarks.harness.report import Report, command
from benchmarks.harness.requests import Rows
from ranker.engine.simd import engine as simd
from ranker.engine.simd.engine import SimdEngine
from ranker.engine.simd.explainer import SimdExplainer
from ranker.forest.onnx import read_forest

POOL_ROWS = 20_000
SIZES = (1, 10, 50, 100, 1000, 10000)
UNEVEN = {"max_depth": 10, "max_leaves": 128, "grow_policy": "lossguide"}
SPECS = (
    Spec("100x6", 100, parameters={"max_depth": 6}),
    Spec("500x6", 500, parameters={"max_depth": 6}),
    Spec("1000x8", 1000, parameters={"max_depth": 8}),
    Spec("300x10-uneven", 300, parameters=UNEVEN),
    Spec("500x7-500-features", 500, features=500, parameters={"max_depth": 7}),
)


def measure(engines: dict[str, Score], pool: Rows, n: int, seconds: float) -> dict[str, float]:
    """Seconds per call of each engine, called in turns for about `seconds`: the lower quartile.

    CPU seconds of the calling thread, as all engines score on it and a shared
    machine may give it to others meanwhile.
    """
    starts = itertools.cycle(range(0, len(pool) - n + 1, n))

    def timed(score: Score, calls: int) -> float:
        blocks = [pool[begin : begin + n] for begin in itertools.islice(starts, calls)]
        clock = time.thread_time()
        for block in blocks:
            score(block)
        return (time.thread_time() - clock) / calls

    calls = {}  # how many take a few milliseconds
    for name, score in engines.items():
        first = timed(score, 1)
        quickest = min(timed(score, 1) for _ in range(7)) if first < 0.1 else first
        calls[name] = max(1, round(3e-3 / quickest))
    took: dict[str, list[float]] = {name: [] for name in engines}
    order = list(engines)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took[order[0]]) < 3:
        order.append(order.pop(0))  # so that nobody always follows the same other
        for name in order:
            took[name].append(timed(engines[name], calls[name]))
    return {name: statistics.quantiles(times)[0] for name, times in took.items()}


def explainers(trained: Trained) -> tuple[dict[str, Score], dict[str, Score]]:
    """Ours on every instruction path, and XGBoost's."""
    forest = read_forest(trained.onnx())
    predict = partial(trained.booster.predict, pred_contribs=True)
    theirs = {"xgboost": lambda rows: predict(xgb.DMatrix(rows, nthread=1))}
    return on_paths(lambda: SimdExplainer(forest).explain), theirs


def scorers(trained: Trained) -> tuple[dict[str, Score], dict[str, Score]]:
    """Ours on every instruction path, and the peers that are installed."""
    forest = read_forest(trained.onnx())
    others = {name: load(trained) for name, load in PEERS.items() if find_spec(name)}
    return on_paths(lambda: SimdEngine(forest).score), others


def check(paths: dict[str, Score], want: NDArray[np.float32], rows: Rows) -> None:
    """Refuses to time what isn't right: scores bit for bit, explanations nearly."""
    allowed = 0.0 if want.ndim == 1 else 1e-5 * float(np.ptp(want.sum(axis=1)))
    for path, score in paths.items():
        if not np.abs(score(rows) - want).max() <= allowed:
            raise click.ClickException(f"{path}: not what XGBoost says")


@command
@click.option("--explain", is_flag=True, help="Explanations instead of scores.")
@click.option("--only", multiple=True, help="Names of models. Default: all.")
@click.option("--size", "sizes", multiple=True, type=int, default=SIZES, help="Rows of a batch.")
@click.option("--seconds", default=1.0, help="For each line.")
def main(
    report: Report, explain: bool, only: tuple[str, ...], sizes: tuple[int, ...], seconds: float
) -> None:
    """Measures and prints a table per model."""
    if obstacle := simd.unavailable():
        raise click.ClickException(f"simd: {obstacle}")
    machine.share_cores()
    for spec in (spec for spec in SPECS if not only or spec.name in only):
        trained = Trained(spec)
        paths, others = explainers(trained) if explain else scorers(trained)
        fastest, *_ = paths
        pairs = [(peer, path) for path in paths for peer in others]
        ratios = [f"{peer} / {path}" for peer, path in pairs]
        head = ("missing", "n", f"{fastest} µs", "ns per tree and row")
        table = report.table(*head, *ratios, title=spec.name)
        for missing in (0.0, 0.2):
            pool = make_rows(np.random.default_rng(1), POOL_ROWS, spec.features, missing)
            few = pool[: 20 if explain else 2000]
            check(paths, others["xgboost"](few), few)
            for n in sizes:
                took = measure(paths | others, pool, n, seconds)
                each = took[fastest] / n / spec.trees * 1e9
                times = (took[peer] / took[path] for peer, path in pairs)
                table.row(f"{missing:.0%}", n, took[fastest] * 1e6, each, *times)
