"""What loading a model takes: time, and memory against the file's size.

    make bench-load

The models have 1000 trees of 255 random splits over 64 features: perfect ones of
depth 8, as `TreeEnsemble` (the exporter's form) and as `TreeEnsembleRegressor`
(other converters'), and chains, each split below the last. Each is loaded in
processes of their own that have loaded a small model before, so that it is not
the code that is measured. *Peak* is what the process grew by at most over the
file's size, the file's own bytes included; *kept* what it had grown by at last.
The last column is the peak without `ranker.process.heap.return_freed_arrays`, which only
a server calls.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ranker.forest.onnx import read_forest
from ranker.model import Model, ModelFile
from ranker.process.heap import return_freed_arrays

TREES = 1000
DEPTH = 8
FEATURES = 64

SPLITS = 2**DEPTH - 1
LEAVES = 2**DEPTH


def perfect(rng: np.random.Generator, trees: int) -> NodeProto:
    """Trees of depth 8 as opset 5 has them."""
    split = np.arange(SPLITS)
    return tree_ensemble(rng, trees, np.stack([2 * split + 1, 2 * split + 2]))


def chains(rng: np.random.Generator, trees: int) -> NodeProto:
    """The same number of splits one below the other: depth 255."""
    split = np.arange(SPLITS)
    return tree_ensemble(rng, trees, np.stack([SPLITS + 1 + split, split + 1]))


def tree_ensemble(rng: np.random.Generator, trees: int, children: NDArray[np.int64]) -> NodeProto:
    """Trees as opset 5 has them: splits and leaves apart.

    Args:
        rng: makes features, thresholds and leaves.
        trees: how many.
        children: [2, SPLITS], of each split of a tree; from SPLITS on leaves.
    """
    is_leaf = children >= SPLITS
    tree = np.arange(trees)[:, None]
    true, false = (
        np.where(leaf, tree * LEAVES - SPLITS, tree * SPLITS) + child
        for leaf, child in zip(is_leaf, children, strict=True)
    )
    return helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        tree_roots=(tree[:, 0] * SPLITS).tolist(),
        nodes_modes=numpy_helper.from_array(np.ones(trees * SPLITS, np.uint8)),
        nodes_featureids=rng.integers(0, FEATURES, trees * SPLITS).tolist(),
        nodes_splits=numpy_helper.from_array(normal(rng, trees * SPLITS)),
        nodes_missing_value_tracks_true=rng.integers(0, 2, trees * SPLITS).tolist(),
        nodes_truenodeids=true.ravel().tolist(),
        nodes_trueleafs=np.tile(is_leaf[0], trees).astype(int).tolist(),
        nodes_falsenodeids=false.ravel().tolist(),
        nodes_falseleafs=np.tile(is_leaf[1], trees).astype(int).tolist(),
        leaf_targetids=[0] * trees * LEAVES,
        leaf_weights=numpy_helper.from_array(normal(rng, trees * LEAVES)),
    )


def regressor(rng: np.random.Generator, trees: int) -> NodeProto:
    """Trees of depth 8 as opset 1 has them: all nodes in one list."""
    nodes = SPLITS + LEAVES
    node = np.arange(nodes)
    is_leaf = node >= SPLITS
    return helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=np.repeat(np.arange(trees), nodes).tolist(),
        nodes_nodeids=np.tile(node, trees).tolist(),
        nodes_modes=np.tile(np.where(is_leaf, "LEAF", "BRANCH_LT"), trees).tolist(),
        nodes_featureids=rng.integers(0, FEATURES, trees * nodes).tolist(),
        nodes_values=normal(rng, trees * nodes).tolist(),
        nodes_missing_value_tracks_true=rng.integers(0, 2, trees * nodes).tolist(),
        nodes_truenodeids=np.tile(np.where(is_leaf, 0, 2 * node + 1), trees).tolist(),
        nodes_falsenodeids=np.tile(np.where(is_leaf, 0, 2 * node + 2), trees).tolist(),
        target_treeids=np.repeat(np.arange(trees), LEAVES).tolist(),
        target_nodeids=np.tile(node[is_leaf], trees).tolist(),
        target_ids=[0] * trees * LEAVES,
        target_weights=normal(rng, trees * LEAVES).tolist(),
    )


@dataclass(frozen=True)
class Cost:
    """What a load took; memory in sizes of the file."""

    seconds: float
    peak: float
    kept: float


def normal(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Random thresholds or leaves."""
    return rng.normal(size=n).astype(np.float32)


def write(node: NodeProto, path: Path) -> None:
    """Writes a model of one operator."""
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 5)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())


def measure(load: Callable[[Path], object], path: Path, warm: Path, by_server: bool) -> Cost:
    """What `load` takes on a file; in a fresh process."""
    if by_server:
        return_freed_arrays()
    load(warm)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begin = time.perf_counter()
    loaded = load(path)
    seconds = time.perf_counter() - begin
    size = path.stat().st_size
    peak, kept = ((resident_bytes(what) - before) / size for what in ("VmHWM", "VmRSS"))
    del loaded
    return Cost(seconds, peak, kept)


def load_model(path: Path) -> object:
    """As a server does."""
    return Model.load(path, engine="simd")


def resident_bytes(what: str) -> int:
    """Memory that this process holds (VmRSS), or held at most (VmHWM). Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{what}:\s+(\d+) kB", status)[0]) * 1024


def main() -> None:
    """Writes the files and loads each in fresh processes."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    parts = {"file": ModelFile.read, "forest": read_forest, "model": load_model}
    print("| model | file MB | part | seconds | peak | kept | peak, default heap |")
    print("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for make in (perfect, regressor, chains):
            path, warm = Path(folder) / make.__name__, Path(folder) / "warm"
            write(make(np.random.default_rng(0), TREES), path)
            write(make(np.random.default_rng(0), 2), warm)
            for name, load in parts.items():
                by_server, default = (in_fresh_process(load, path, warm, s) for s in (True, False))
                print(
                    f"| {make.__name__} | {path.stat().st_size / 1e6:.1f} | {name} "
                    f"| {by_server.seconds:.3f} | {by_server.peak:.2f} | {by_server.kept:.2f} "
                    f"| {default.peak:.2f} |"
                )


def in_fresh_process(
    load: Callable[[Path], object], path: Path, warm: Path, by_server: bool
) -> Cost:
    """`measure`, of a process that has done nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (load, path, warm, by_server))


if __name__ == "__main__":
    main()
