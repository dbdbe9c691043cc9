"""How fast a GPU scores, beside what it can't be faster than, in parts that are saved one by one.

The most wanted parts come first; a run that is stopped goes on with the part that it was at, and
--minutes begins none after so long. For each model they are

parity: scores of random rows, and of thresholds and their neighbours, held against XGBoost's, bit
for bit; ours: `score` of the engine `cuda`, by one thread and by two, whose batches overlap, rows
and scores in host memory, and what bounds it: the kernel with both in device memory, the copies
alone, gathering rows in the host's memory; server: the median latency of one request at a time,
and the time per request with 16 in flight; peers: the tensor graph by onnxruntime, the simd engine
on one core, xgboost and nvforest (tuned to each batch size by itself), where they are installed.

Figures are microseconds a batch, and million rows a second. --dry tries the script out without a
GPU, with a small model and the tensor graph on the CPU.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import numpy as np

from benchmarks.harness.data import CACHE, Spec, Trained, make_rows
from benchmarks.harness.gpu_columns import Column, our_columns, peer_columns, server_columns
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, command
from benchmarks.harness.requests import Rows
from ranker.engine.api import Engine
from ranker.engine.gpu import engine as gpu_engine
from ranker.engine.gpu import graph_engine
from ranker.forest import Forest
from ranker.forest.onnx import read_forest
from tests.engine.simd.simd_forests import random_rows

SPECS = tuple(
    Spec(f"{trees}x{depth}", trees, parameters={"max_depth": depth})
    for trees, depth in ((500, 6), (1000, 8), (100, 6), (3000, 8))
)
SIZES = (2000, 65_536, 1000, 10_000, 100, 10)
POOL_ROWS = 524_288  # 134 MB: blocks of 65536 rows don't stay in the caches
DRY_SPECS = (Spec("20x4-dry", 20, parameters={"max_depth": 4}),)
DRY_SIZES, DRY_POOL_ROWS = (10, 100), 400
PARITY_ROWS = 4000
MAX_SERVED_ROWS = 10_000
"""The server's own default bound on one request."""

Row = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """One model's parts; each method gives the rows of a table."""

    trained: Trained
    gpu: int | None
    pool: Rows
    sizes: tuple[int, ...]
    seconds: float

    @cached_property
    def forest(self) -> Forest:
        """The model's."""
        return read_forest(self.trained.onnx())

    def parity(self) -> Iterator[Row]:
        """How many scores differ from XGBoost's on the CPU."""
        began = time.perf_counter()
        engine = self._engine()
        took = time.perf_counter() - began
        edges = random_rows(np.random.default_rng(2), PARITY_ROWS, self.forest)
        rows = np.concatenate([self.pool[:PARITY_ROWS], edges])
        want, got = self.trained.scores(rows), engine.score([rows])
        differ = int((got.view(np.uint32) != want.view(np.uint32)).sum())
        most = float(np.abs(got - want).max())
        yield {"scores": len(rows), "differ": differ, "at most by": most, "loaded in s": took}

    def ours(self) -> Iterator[Row]:
        """The engine and its bounds."""
        return self._timed(our_columns(self._engine(), self.forest, self.gpu))

    def server(self) -> Iterator[Row]:
        """Over gRPC."""
        arguments = [str(self.trained.onnx()), "--max-batch-rows", "65536"]
        if self.gpu is not None:
            arguments += ["--engine", "cuda", "--device", f"cuda:{self.gpu}"]
        with RankerServer(*arguments) as running:
            yield from self._timed(server_columns(running.address), MAX_SERVED_ROWS)

    def peers(self) -> Iterator[Row]:
        """Other engines."""
        return self._timed(peer_columns(self.trained, self.forest, self.gpu))

    def _engine(self) -> Engine:
        if self.gpu is None:
            return graph_engine.TensorEngine(self.forest, graph_engine.CPU_PROVIDER, 4096)
        return gpu_engine.load_gpu(self.forest, self.gpu)[0]

    def _timed(self, columns: dict[str, Column], largest: int = POOL_ROWS) -> Iterator[Row]:
        for n in (size for size in self.sizes if size <= largest):
            blocks = [self.pool[i : i + n] for i in range(0, len(self.pool) - n + 1, n)]
            row: Row = {"n": n}
            for name, column in columns.items():
                seconds = column(blocks, self.seconds)
                row |= {f"{name} µs": seconds * 1e6, f"{name} M/s": n / seconds / 1e6}
            yield row


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "parity": Bench.parity,
    "ours": Bench.ours,
    "server": Bench.server,
    "peers": Bench.peers,
}


def machine(gpu: int) -> str:
    """The GPU's name, memory, clock and driver."""
    query = "--query-gpu=name,memory.total,clocks.max.sm,driver_version"
    asked = ["nvidia-smi", query, "--format=csv,noheader", f"--id={gpu}"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


@command
@click.option("--index", default=0, help="Which GPU.")
@click.option("--dry", is_flag=True, help="Try the script out without a GPU.")
@click.option("--models", type=click.Path(path_type=Path), default=CACHE, help="Kept there.")
@click.option("--only", multiple=True, help="Names of models. Default: all.")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), default=list(PARTS))
@click.option("--size", "sizes", multiple=True, type=int, help="Batch sizes. Default: all.")
@click.option("--seconds", default=0.4, help="For each figure.")
@click.option("--minutes", default=10.0, help="After which no part begins.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/gpu"), help="Of parts.")
def main(
    report: Report, index: int, dry: bool, models: Path, only: tuple[str, ...],
    parts: tuple[str, ...], sizes: tuple[int, ...], seconds: float, minutes: float, out: Path,
) -> None:  # fmt: skip
    """Measures part by part; exit code 1: scores differ from XGBoost's."""
    if not dry and (obstacle := gpu_engine.unavailable()):
        raise click.ClickException(obstacle)
    report.say("no GPU: a trial of the script" if dry else machine(index))
    specs = [spec for spec in (DRY_SPECS if dry else SPECS) if not only or spec.name in only]
    wanted = [(spec, part) for spec in specs for part in parts]
    wanted.sort(key=lambda each: each[1] == "peers")  # last
    pool_rows, sizes = (DRY_POOL_ROWS, sizes or DRY_SIZES) if dry else (POOL_ROWS, sizes or SIZES)
    out.mkdir(parents=True, exist_ok=True)
    end, wrong = time.monotonic() + 60 * minutes, 0.0
    for spec, part in wanted:
        saved = out / f"{spec.name}-{part}.json"
        if not saved.exists():
            if time.monotonic() > end:
                report.say(f"{spec.name}: {part}: no time was left")
                continue
            pool = make_rows(np.random.default_rng(1), pool_rows, spec.features, 0.05)
            bench = Bench(Trained(spec, models), None if dry else index, pool, sizes, seconds)
            saved.write_text(json.dumps(list(PARTS[part](bench))))
        rows: list[Row] = json.loads(saved.read_text())
        table = report.table(*rows[0], title=f"{spec.name}: {part}")
        for row in rows:
            table.row(*row.values())
            wrong += row.get("differ", 0)
    if wrong:
        raise click.ClickException(f"{wrong:.0f} scores differ from XGBoost's")
