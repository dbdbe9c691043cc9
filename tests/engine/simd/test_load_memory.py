"""Loading a large model takes little more memory than its file."""

import multiprocessing
import platform
import re
from pathlib import Path

import numpy as np
import pytest

from ranker import Model
from ranker.engine.simd import engine as simd
from ranker.process.heap import return_freed_arrays
from tests.forest.onnx import onnx_models
from tests.forest.onnx.onnx_models import Split, Tree

TREES, DEPTH, FEATURES = 1000, 8, 64


def write(trees: int, path: Path) -> None:
    """Writes a model of perfect trees with random splits."""
    rng, nodes = np.random.default_rng(0), trees << (DEPTH + 1)
    values = iter(rng.normal(size=nodes).tolist())
    features = iter(rng.integers(FEATURES, size=nodes).tolist())
    missing = iter(rng.integers(2, size=nodes).astype(bool).tolist())

    def tree(depth: int) -> Tree:
        if depth == 0:
            return next(values)
        below = tree(depth - 1), tree(depth - 1)
        return Split(next(features), "LT", next(values), *below, next(missing))

    node = onnx_models.tree_ensemble([tree(DEPTH) for _ in range(trees)])
    path.write_bytes(onnx_models.model(node, features=FEATURES).SerializeToString())


def load_as_a_server_does(path: Path) -> object:
    return_freed_arrays()
    return Model.load(path, engine="simd")


def memory_taken(path: Path, warm: Path) -> tuple[float, float]:
    """What this process grows by at most, and at last, in sizes of the file, its bytes included.

    Loads another one before, so that it is not the code that is measured.
    """
    load_as_a_server_does(warm)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    model = load_as_a_server_does(path)
    peak, kept = resident_bytes("VmHWM"), resident_bytes("VmRSS")
    del model
    size = path.stat().st_size
    return (peak - before) / size, (kept - before) / size


def resident_bytes(what: str) -> int:
    """Memory that this process holds (VmRSS), or held at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{what}:\s+(\d+) kB", status)[0]) * 1024


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="measures /proc and glibc's heap")
def test_loading_takes_at_most_three_times_the_file(tmp_path):
    path, warm = tmp_path / "large.onnx", tmp_path / "small.onnx"
    write(TREES, path)
    write(2, warm)
    with multiprocessing.get_context("spawn").Pool(1) as process:
        peak, kept = process.apply(memory_taken, (path, warm))
    assert 1 < peak < 3
    assert kept < 1.5
