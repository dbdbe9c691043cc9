"""What loading a model takes: time, and memory against the file's size.

The models have 1000 trees of 255 random splits over 64 features: perfect ones of depth 8, as
`TreeEnsemble` (the exporter's form) and `TreeEnsembleRegressor` (other converters'), and chains,
each split below the last. Each is loaded in processes of their own, after a small one, so that it
is not the code that is measured. Peak is what the process grew by at most over the file's size, the
file's own bytes included; kept what it had grown by at last. A server has glibc's heap give arrays
back to the kernel as they are freed; so does GLIBC_TUNABLES here, but for the last column.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness.report import Report, command
from ranker import Model
from ranker.forest.onnx import read_forest
from tests.forest.onnx import onnx_models
from tests.forest.onnx.onnx_models import Split, Tree

TREES, DEPTH, FEATURES = 1000, 8, 64
SERVERS_HEAP = "glibc.malloc.mmap_threshold=131072"

Load = Callable[[Path], object]


class Cost(NamedTuple):
    """What a load took: seconds, and memory in sizes of the file."""

    seconds: float
    peak: float
    kept: float


def perfect(rng: np.random.Generator, depth: int = DEPTH) -> Tree:
    """A tree whose leaves are all as deep."""
    if depth == 0:
        return float(rng.normal())
    return _split(rng, perfect(rng, depth - 1), perfect(rng, depth - 1))


def chain(rng: np.random.Generator) -> Tree:
    """As many splits, one below the other."""
    tree: Tree = 0.0
    for _ in range(2**DEPTH - 1):
        tree = _split(rng, float(rng.normal()), tree)
    return tree


def _split(rng: np.random.Generator, true: Tree, false: Tree) -> Tree:
    feature, missing = int(rng.integers(FEATURES)), bool(rng.integers(2))
    return Split(feature, "LT", float(rng.normal()), true, false, missing)


MODELS = {
    "perfect": (perfect, onnx_models.tree_ensemble),
    "regressor": (perfect, onnx_models.regressor),
    "chains": (chain, onnx_models.tree_ensemble),
}


def write(name: str, trees: int, path: Path) -> None:
    """Writes one of `MODELS`."""
    (make, encode), rng = MODELS[name], np.random.default_rng(0)
    node = encode([make(rng) for _ in range(trees)])
    path.write_bytes(onnx_models.model(node, features=FEATURES).SerializeToString())


def load_model(path: Path) -> object:
    """As a server does."""
    return Model.load(path, engine="simd")


def in_fresh_process(load: Load, path: Path, warm: Path, heap: str = SERVERS_HEAP) -> Cost:
    """What `load` takes on a file, in a process that has done so with another one before."""
    os.environ["GLIBC_TUNABLES"] = heap
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_measure, (load, path, warm))
    finally:
        del os.environ["GLIBC_TUNABLES"]


def _measure(load: Load, path: Path, warm: Path) -> Cost:
    load(warm)
    before = _resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begin = time.perf_counter()
    loaded = load(path)
    seconds = time.perf_counter() - begin
    size = path.stat().st_size
    peak, kept = ((_resident_bytes(what) - before) / size for what in ("VmHWM", "VmRSS"))
    del loaded
    return Cost(seconds, peak, kept)


def _resident_bytes(what: str) -> int:
    """Memory that this process holds (VmRSS), or held at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{what}:\s+(\d+) kB", status)[0]) * 1024


@command
def main(report: Report) -> None:
    """Writes the files and loads each in fresh processes."""
    table = report.table("model, part", "file MB", *Cost._fields, "peak, default heap")
    parts: dict[str, Load] = {"forest": read_forest, "model": load_model}
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            path, warm = Path(folder) / model, Path(folder) / "warm"
            write(model, TREES, path)
            write(model, 2, warm)
            for part, load in parts.items():
                costs = (in_fresh_process(load, path, warm, heap) for heap in (SERVERS_HEAP, ""))
                cost, default = costs
                table.row(f"{model}, {part}", path.stat().st_size / 1e6, *cost, default.peak)
