"""A `Forest` as the tables that the GPU kernel walks; `kernel.cu` declares the same ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.engine.gpu.graph_tables import NodeTables, tabulate, tree_depths
from ranker.errors import UnsupportedModelError
from ranker.forest import Forest

ROWS = 32
WARPS = 16
TREES = 4
"""The kernel's constants: rows and warps of a block, and trees that a thread walks at a time."""

LEAVES_BYTES = 2 * (WARPS - 1) * TREES * ROWS * 4
"""Shared memory of a block for leaves' values: two rounds."""

NEXT_BITS = 32
"""What a node's column and left child share."""

COLUMN = np.dtype(
    [
        ("feature", np.int32),
        ("floored", np.int32),
        ("set", np.int32),
        ("largest", np.float32),
        ("missing", np.float32),
    ]
)
NODE = np.dtype([("threshold", np.float32), ("next", np.uint32)])
TREE = np.dtype([("root", np.int32), ("steps", np.int32)])
FOREST = np.dtype(
    [
        ("columns", np.uint64),
        ("goes_right", np.uint64),
        ("nodes", np.uint64),
        ("values", np.uint64),
        ("trees", np.uint64),
        ("num_features", np.int32),
        ("num_columns", np.int32),
        ("num_trees", np.int32),
        ("column_bits", np.int32),
        ("base", np.float32),
        ("logistic", np.int32),
    ]
)
"""The kernel's structures."""

Place = Callable[[NDArray[Any]], int]
"""Copies an array to where the kernel runs, and returns its address there."""


def source() -> str:
    """The kernel, in CUDA C++."""
    return files(__package__).joinpath("kernel.cu").read_text(encoding="utf-8")


@dataclass(frozen=True, eq=False)
class GpuForest:
    """A forest's tables; C of columns, N nodes, T trees.

    Attributes:
        columns: COLUMN [C].
        goes_right: uint8, one per category and set; never empty.
        nodes: NODE [N].
        values: float32 [N].
        trees: TREE [T rounded up to a multiple of `TREES`].
        num_trees: T.
        num_features: the width of a row.
        column_bits: how many bits of `next` say the column.
        base: added to the sum of the leaves.
        logistic: whether the score is `1 / (1 + exp(-sum))`.
    """

    columns: NDArray[Any]
    goes_right: NDArray[np.uint8]
    nodes: NDArray[Any]
    values: NDArray[np.float32]
    trees: NDArray[Any]
    num_trees: int
    num_features: int
    column_bits: int
    base: np.float32
    logistic: bool

    @property
    def column_bytes(self) -> int:
        """Memory of a block's columns."""
        return len(self.columns) * ROWS * 4

    def place(self, place: Place) -> NDArray[Any]:
        """Copies the tables, and returns the FOREST that points to them; a vector of one."""
        forest = np.zeros(1, FOREST)
        for name in ("columns", "goes_right", "nodes", "values", "trees"):
            forest[name] = place(getattr(self, name))
        forest["num_columns"] = len(self.columns)
        for name in ("num_trees", "num_features", "column_bits", "base", "logistic"):
            forest[name] = getattr(self, name)
        return forest


def lay_out(forest: Forest) -> GpuForest:
    """Makes the tables of a forest.

    Raises:
        UnsupportedModelError: a path or a category is beyond the limits of
            `tabulate`, or a tree and the columns together beyond 32 bits.
    """
    tables = tabulate(forest)
    sizes = np.diff(np.append(forest.roots, len(forest.feature)))
    column_bits = (tables.num_columns - 1).bit_length()
    if int(sizes.max()) > 1 << (NEXT_BITS - column_bits):
        raise UnsupportedModelError(
            f"a tree of {sizes.max()} nodes over {tables.num_columns} columns; "
            f"expected at most {1 << (NEXT_BITS - column_bits)} nodes"
        )
    nodes = np.empty(len(forest.feature), NODE)
    nodes["threshold"] = tables.threshold
    left = (tables.left - np.repeat(forest.roots, sizes)).astype(np.uint32)
    nodes["next"] = left << np.uint32(column_bits) | tables.column.astype(np.uint32)

    num_trees = len(forest.roots)
    trees = np.zeros(-(-num_trees // TREES) * TREES, TREE)
    trees["root"][:num_trees] = forest.roots
    trees["steps"][:num_trees] = tree_depths(forest)
    return GpuForest(
        columns=_columns(forest, tables),
        goes_right=np.ones(1, np.uint8)
        if tables.sets is None
        else tables.sets.goes_right.view(np.uint8),
        nodes=nodes,
        values=tables.value,
        trees=trees,
        num_trees=num_trees,
        num_features=forest.num_features,
        column_bits=column_bits,
        base=forest.base,
        logistic=forest.logistic,
    )


def _columns(forest: Forest, tables: NodeTables) -> NDArray[Any]:
    """How each column is made, in the order of `NodeTables`."""
    columns = np.zeros(tables.num_columns, COLUMN)
    filled, sets = len(tables.kept), len(tables.kept) + len(tables.filled)
    columns["feature"][:filled] = tables.kept
    columns["feature"][filled:sets] = tables.filled
    columns["set"] = -1
    columns["missing"][:filled] = np.nan
    columns["missing"][filled:] = np.inf
    if tables.sets is not None:
        feature = tables.sets.feature_of_set
        largest = tables.sets.largest[feature, 0]
        columns["feature"][sets:] = tables.sets.features[feature]
        columns["set"][sets:] = tables.sets.begin[:, 0]
        columns["largest"][sets:] = largest
        columns["missing"][sets:] = largest + 2
    columns["floored"] = forest.floored[columns["feature"]]
    return columns
