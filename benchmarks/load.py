"""What loading a model takes: time, and memory against the file's size.

python -m benchmarks.load

The model is 1000 perfect trees of depth 8 with random splits over 64 features,
once as `TreeEnsemble` (the exporter's form) and once as `TreeEnsembleRegressor`
(other converters'). Each is loaded in a process of its own. *Kept* is the
Forest's arrays; *peak* is what the process grew by at most, which is mostly
protobuf's parsed message.
"""

from __future__ import annotations

import multiprocessing
import re
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ranker.onnx_reader import read_forest

TREES = 1000
DEPTH = 8
FEATURES = 64
LOADS = 5

SPLITS = 2**DEPTH - 1
LEAVES = 2**DEPTH


def tree_ensemble(rng: np.random.Generator) -> NodeProto:
    """The trees as opset 5 has them: splits and leaves apart."""
    split = np.arange(SPLITS)
    children = np.stack([2 * split + 1, 2 * split + 2])
    is_leaf = children[0] >= SPLITS
    tree = np.arange(TREES)[:, None]
    first = np.where(is_leaf, tree * LEAVES - SPLITS, tree * SPLITS)
    leafs = np.tile(is_leaf, TREES).astype(int).tolist()
    return helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        tree_roots=(tree[:, 0] * SPLITS).tolist(),
        nodes_modes=numpy_helper.from_array(np.ones(TREES * SPLITS, np.uint8)),
        nodes_featureids=rng.integers(0, FEATURES, TREES * SPLITS).tolist(),
        nodes_splits=numpy_helper.from_array(normal(rng, TREES * SPLITS)),
        nodes_missing_value_tracks_true=rng.integers(0, 2, TREES * SPLITS).tolist(),
        nodes_truenodeids=(first + children[0]).ravel().tolist(),
        nodes_trueleafs=leafs,
        nodes_falsenodeids=(first + children[1]).ravel().tolist(),
        nodes_falseleafs=leafs,
        leaf_targetids=[0] * TREES * LEAVES,
        leaf_weights=numpy_helper.from_array(normal(rng, TREES * LEAVES)),
    )


def regressor(rng: np.random.Generator) -> NodeProto:
    """The trees as opset 1 has them: all nodes in one list."""
    nodes = SPLITS + LEAVES
    node = np.arange(nodes)
    is_leaf = node >= SPLITS
    return helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=np.repeat(np.arange(TREES), nodes).tolist(),
        nodes_nodeids=np.tile(node, TREES).tolist(),
        nodes_modes=np.tile(np.where(is_leaf, "LEAF", "BRANCH_LT"), TREES).tolist(),
        nodes_featureids=rng.integers(0, FEATURES, TREES * nodes).tolist(),
        nodes_values=normal(rng, TREES * nodes).tolist(),
        nodes_missing_value_tracks_true=rng.integers(0, 2, TREES * nodes).tolist(),
        nodes_truenodeids=np.tile(np.where(is_leaf, 0, 2 * node + 1), TREES).tolist(),
        nodes_falsenodeids=np.tile(np.where(is_leaf, 0, 2 * node + 2), TREES).tolist(),
        target_treeids=np.repeat(np.arange(TREES), LEAVES).tolist(),
        target_nodeids=np.tile(node[is_leaf], TREES).tolist(),
        target_ids=[0] * TREES * LEAVES,
        target_weights=normal(rng, TREES * LEAVES).tolist(),
    )


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


def measure(path: Path) -> str:
    """Loads a file and describes what that took."""
    before = peak_bytes()
    seconds = []
    for _ in range(LOADS):
        begin = time.perf_counter()
        forest = read_forest(path)
        seconds.append(time.perf_counter() - begin)
        if len(seconds) == 1:
            grown = peak_bytes() - before
    kept = sum(getattr(value, "nbytes", 0) for value in vars(forest).values())
    size = path.stat().st_size
    return (
        f"{path.stem:14}  file {size / 1e6:5.1f} MB  first load {seconds[0]:.3f} s, "
        f"best of {LOADS} {min(seconds):.3f} s  kept {kept / size:.1f} x file, "
        f"peak {grown / size:.1f} x file"
    )


def peak_bytes() -> int:
    """The most memory that this process ever held. Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def main() -> None:
    """Writes the two files and loads each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        for make in (tree_ensemble, regressor):
            path = Path(folder) / f"{make.__name__}.onnx"
            write(make(np.random.default_rng(0)), path)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(measure, (path,)))


if __name__ == "__main__":
    main()
