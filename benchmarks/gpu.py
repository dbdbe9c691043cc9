"""How fast a GPU scores, beside what it can't be faster than: `python -m benchmarks.gpu`.

One table per model, microseconds a batch and million candidates a second, from
the same rotating rows:

- engine: `score` of the engine `cuda`, rows and scores in host memory.
- two threads: the same by two threads, whose batches overlap; time per batch.
- kernel alone: rows and scores in device memory.
- copies alone, arithmetic alone, gather alone: what bounds them. The engine can't
  be faster than the copies, nor one thread of it than gathering rows in pinned
  memory; the kernel can't be faster than its instructions.
- graph: the tensor graph by onnxruntime, where onnxruntime-gpu is installed.
- simd, one core: the CPU's engine.
- xgboost, nvforest: on the same GPU, rows and scores in host memory, where installed;
  nvforest tuned to each batch size by itself.
- server: `ranker serve`, the median latency of one request at a time, and the time
  per request with 16 in flight.

Scores are first compared with XGBoost's on the CPU, on random rows and on rows
made of thresholds and their neighbours. `--dry` tries the script out without a
GPU, with a small model and the tensor graph on the CPU: its figures mean nothing.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import numpy as np
import xgboost as xgb

from benchmarks import engine
from benchmarks.gpu_columns import (
    Column,
    gather,
    kernel_columns,
    load,
    median,
    other_columns,
    served,
    two_threads,
)
from benchmarks.pinned import PinnedServer
from ranker.engine.api import Engine, Rows
from ranker.engine.gpu import engine as gpu
from ranker.engine.runtime import onnxruntime
from ranker.engine.simd import engine as simd
from ranker.export import export_onnx
from ranker.forest import Forest
from ranker.forest.onnx import read_forest

SPECS = tuple(
    engine.Spec(f"{trees}x{depth}", trees, parameters={"max_depth": depth})
    for trees, depth in ((100, 6), (500, 6), (1000, 8), (3000, 8))
)
SIZES = (10, 100, 1000, 2000, 10_000, 65_536)
POOL_ROWS = 524_288  # 134 MB: blocks of 65536 rows don't stay in the caches

DRY_SPECS = (engine.Spec("20x4-dry", 20, parameters={"max_depth": 4}),)
DRY_SIZES = (10, 100)
DRY_POOL_ROWS = 400

PARITY_ROWS = 4000
MAX_SERVED_ROWS = 10_000
"""The server's own default bound on one request."""


def table(
    spec: engine.Spec, models: Path, pool: Rows, sizes: tuple[int, ...], seconds: float,
    index: int | None, serve: bool,
) -> Iterator[str]:  # fmt: skip
    """The report on a model, line by line, in Markdown."""
    booster = engine.train(spec, models)
    onnx_file = models / f"{spec.name}.onnx"
    if not onnx_file.exists():
        export_onnx(booster, onnx_file)
    forest = read_forest(onnx_file)
    scorer = load(forest, index)
    yield f"## {spec.name}\n"
    yield f"Loaded in {scorer.loaded:.1f} s. {parity(scorer.engine, booster, forest, pool)}\n"

    columns: dict[str, Column] = {
        "engine": partial(median, lambda rows: scorer.engine.score([rows])),
        "two threads": partial(two_threads, scorer.engine),
    }
    if index is not None:
        columns |= kernel_columns(forest, index)
    columns |= {"gather alone": gather}
    columns |= other_columns(forest, models / f"{spec.name}.ubj", index)
    with server(onnx_file, index, serve) as address:
        if address:
            columns |= {"server": partial(served, address, 1)}
            columns |= {"server, 16 in flight": partial(served, address, 16)}
        yield f"| n | {' | '.join(columns)} |"
        yield "|---" * (len(columns) + 1) + "|"
        for n in sizes:
            blocks = [pool[i : i + n] for i in range(0, len(pool) - n + 1, n)]
            cells = [
                ""
                if name.startswith("server") and n > MAX_SERVED_ROWS
                else cell(column(blocks, seconds), n)
                for name, column in columns.items()
            ]
            yield f"| {n} | {' | '.join(cells)} |"


def cell(seconds: float, n: int) -> str:
    """A time as a table shows it."""
    if math.isnan(seconds):
        return "failed"
    return f"{seconds * 1e6:.0f} ({n / seconds / 1e6:.2f})"


def edge_rows(forest: Forest, rows: int) -> Rows:
    """Rows of thresholds, their neighbours on both sides, infinities and NaN."""
    rng = np.random.default_rng(2)
    thresholds = forest.threshold[forest.feature >= 0]
    infinity = np.float32(np.inf)
    values = np.concatenate(
        [thresholds, np.nextafter(thresholds, infinity), np.nextafter(thresholds, -infinity)]
    )
    rare = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45], np.float32)
    shape = rows, forest.num_features
    return np.where(rng.random(shape) < 0.1, rng.choice(rare, shape), rng.choice(values, shape))


def parity(scorer: Engine, booster: xgb.Booster, forest: Forest, pool: Rows) -> str:
    """Compares scores with XGBoost's on the CPU, bit for bit."""
    rows = np.concatenate([pool[:PARITY_ROWS], edge_rows(forest, PARITY_ROWS)])
    want = booster.inplace_predict(rows, predict_type="margin", validate_features=False)
    got = scorer.score([rows])
    different = int((got.view(np.uint32) != want.view(np.uint32)).sum())
    if not different:
        return f"All {len(rows)} scores equal XGBoost's, bit for bit."
    largest = float(np.abs(got - want).max())
    return f"**{different} of {len(rows)} scores differ from XGBoost's, by at most {largest:.3g}.**"


@contextmanager
def server(onnx_file: Path, index: int | None, wanted: bool) -> Iterator[str]:
    """A server of a model, on two cores; its address, empty if none is wanted."""
    if not wanted:
        yield ""
        return
    arguments = ["-m", "ranker", "serve", str(onnx_file), "--host", "127.0.0.1", "--port", "0"]
    arguments += ["--metrics-port", "-1", "--max-batch-rows", "65536"]
    if index is not None:
        arguments += ["--engine", "cuda", "--device", f"cuda:{index}"]
    cores = set(sorted(os.sched_getaffinity(0))[:2])
    with PinnedServer(cores, *arguments) as running:
        yield running.address


def machine(index: int | None) -> str:
    """The names of what is measured."""
    if index is None:
        return f"{engine.processor()}, no GPU: a trial of the script"
    query = "--query-gpu=name,memory.total,clocks.max.sm,driver_version"
    command = ["nvidia-smi", query, "--format=csv,noheader", f"--id={index}"]
    card = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return f"{card}; {engine.processor()}"


@click.command()
@click.option("--index", default=0, show_default=True, help="Which GPU.")
@click.option("--dry", is_flag=True, help="Try the script out without a GPU, in seconds.")
@click.option("--models", type=Path, default=Path("build/bench-engine"), show_default=True)
@click.option("--only", multiple=True, help="Names of models; default: all.")
@click.option("--size", "sizes", multiple=True, type=int, help="Batch sizes; default: all.")
@click.option("--seconds", default=0.4, show_default=True, help="Time for each figure.")
@click.option("--serve/--no-serve", default=False, show_default=True, help="Also over gRPC.")
@click.option("--out", type=Path, help="A folder for the report, by model; resumes what is there.")
def main(
    index: int, dry: bool, models: Path, only: tuple[str, ...], sizes: tuple[int, ...],
    seconds: float, serve: bool, out: Path | None,
) -> None:  # fmt: skip
    """Prints the report, one model after the other."""
    if not dry and gpu.unavailable():
        sys.exit(gpu.unavailable())
    os.environ.pop(simd.PATH_VARIABLE, None)
    chosen = None if dry else index
    print(f"# {machine(chosen)}\n")
    print(
        f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, "
        f"xgboost {xgb.__version__}. Microseconds a batch; in brackets, million candidates "
        "a second.\n",
        flush=True,
    )
    wrong = False
    for spec in DRY_SPECS if dry else SPECS:
        if only and spec.name not in only:
            continue
        done = out / f"{spec.name}.md" if out else None
        if done is not None and done.exists():
            text = done.read_text(encoding="utf-8")
            print(text)
        else:
            pool_rows = DRY_POOL_ROWS if dry else POOL_ROWS
            pool = engine.make_rows(np.random.default_rng(1), pool_rows, spec.features, 0.05)
            lines = []
            which = sizes or (DRY_SIZES if dry else SIZES)
            for line in table(spec, models, pool, which, seconds, chosen, serve):
                print(line, flush=True)
                lines.append(line)
            text = "\n".join(lines) + "\n"
            print()
            if done is not None:
                done.parent.mkdir(parents=True, exist_ok=True)
                done.write_text(text, encoding="utf-8")
        wrong |= "**" in text
    if wrong:
        sys.exit("scores differ from XGBoost's")


if __name__ == "__main__":
    main()
