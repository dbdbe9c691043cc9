"""What the tensor graph is made of; `test_gpu_parity.py` compares its scores with XGBoost's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import xgboost

from ranker.engine.gpu.graph import SPLIT_OUTPUTS, SUM_INPUTS, compile_forest
from ranker.engine.gpu.graph_tables import MAX_CODE, MAX_STEPS, tabulate
from ranker.engine.gpu.kernel_tables import lay_out
from ranker.errors import UnsupportedModelError
from ranker.export import export_onnx
from ranker.forest import Forest
from ranker.forest.onnx import read_forest
from tests.engine.simd.simd_forests import categorical_stump, forest_from, random_tree

ON_GPU = {
    "Add", "And", "Cast", "Concat", "Equal", "Floor", "Gather", "GatherElements", "GreaterOrEqual",
    "Identity", "IsNaN", "LessOrEqual", "Sigmoid", "Split", "Sum", "Transpose", "Where",
}  # fmt: skip
"""Operators that have a CUDA kernel for the types used here (onnxruntime's OperatorKernels.md)."""


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([1.0, 2.5], id="not-whole"),
        pytest.param([-1.0, 2.0], id="negative"),
        pytest.param([1.0, MAX_CODE + 1], id="too-large"),
        pytest.param([1.0, np.inf], id="infinite"),
    ],
)
def test_sets_that_need_other_tables_are_refused(members: list[float]) -> None:
    with pytest.raises(UnsupportedModelError, match="feature 0: expected members that are whole"):
        compile_forest(categorical_stump(members))


@pytest.mark.parametrize("compile_", [compile_forest, lay_out], ids=["graph", "kernel"])
def test_too_deep_a_tree_is_refused(compile_: Callable[[Forest], object]) -> None:
    rng = np.random.default_rng(0)
    shallow = random_tree(rng, 2, 3, np.ones(1, np.float32), chain=True)
    deep = random_tree(rng, MAX_STEPS + 2, 3, np.ones(1, np.float32), chain=True)
    message = f"^tree 1: a path of {MAX_STEPS + 1} splits; a GPU scores at most {MAX_STEPS}$"
    with pytest.raises(UnsupportedModelError, match=message):
        compile_(forest_from([shallow, deep], 3))


def test_shallow_trees_do_not_wait_for_deep_ones() -> None:
    rng = np.random.default_rng(0)
    thresholds = np.ones(1, np.float32)
    depths = [2, 40, 3, 2, 2, 41, 3, 2, 1, 2]
    trees = [random_tree(rng, depth + 1, 3, thresholds, chain=True) for depth in depths]
    tables = tabulate(forest_from(trees, 3))
    steps = [group.steps for group in tables.groups for _ in group.roots]
    assert sorted(tables.position) == list(range(len(depths)))
    assert all(steps[tables.position[i]] >= depth for i, depth in enumerate(depths))
    assert [(group.steps, len(group.roots)) for group in tables.groups] == [(41, 2), (3, 8)]


def test_only_operators_with_gpu_kernels_in_shapes_they_like(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = np.column_stack([rng.normal(size=500), rng.integers(0, 9, 500)]).astype(np.float32)
    label = data[:, 0] + (data[:, 1] % 3)
    matrix = xgboost.DMatrix(data, label, feature_types=["q", "c"], enable_categorical=True)
    export_onnx(xgboost.train({"max_depth": 3, "nthread": 1}, matrix, 70), tmp_path / "model.onnx")
    forest = read_forest(tmp_path / "model.onnx")
    assert (forest.members_begin != forest.members_end).any()

    model = onnx.load_from_string(compile_forest(forest).model)
    onnx.checker.check_model(model, full_check=True)
    operators = Counter(node.op_type for node in model.graph.node)
    assert set(operators) <= ON_GPU
    assert operators["Sum"] == 10  # 69 additions, seven at a time
    for node in model.graph.node:
        assert node.op_type != "Sum" or len(node.input) <= SUM_INPUTS
        assert node.op_type != "Split" or len(node.output) <= SPLIT_OUTPUTS
