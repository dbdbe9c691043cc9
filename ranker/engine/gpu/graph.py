"""A `Forest` compiled to an ONNX graph of standard tensor operators.

onnxruntime has no GPU kernel for its tree ensemble operators: they run on the
CPU whatever the provider (onnxruntime #1273). It has one for every operator
used here, so the same graph runs on the CPU, where it is tested, and on a GPU.

The graph holds one node index per tree and row, and all of them take a step at
a time (the traversal of Hummingbird, Nakandala et al., OSDI 2020, but over
explicit children, so that no tree is padded):

    right = columns[column[node], row] >= threshold[node]
    node  = left[node] + right

Matrices are [trees, rows], so that neighbouring GPU threads walk the same tree
and read neighbouring addresses.

The leaves are added in the order of the trees, in float32, from the first one
on, as XGBoost does. Operator `Sum` adds its inputs from left to right in both
providers (`element_wise_ops.cc`, `variadic_elementwise_impl.cuh`); in CUDA up
to eight inputs of one shape are one kernel, hence a chain of such Sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from ranker.engine.gpu.graph_tables import Group, NodeTables, SetTables, tabulate
from ranker.forest import Forest

INPUT, OUTPUT = "rows", "scores"
"""The graph's input, float32 [n, F], and its output, float32 [1, n]."""

OPSET, IR_VERSION = 17, 8

SUM_INPUTS = 8
"""The most inputs that CUDA's `Sum` adds in one kernel."""

SPLIT_OUTPUTS = 32
"""The most outputs for which CUDA's `Split` copies no table of pointers from the host, which a
captured CUDA graph could not replay."""

FIRST_STEP_BYTES = 22
STEP_BYTES = 58
SUM_BYTES = 29
"""Bytes read and written per tree and row: by the first step (4 operators), by each later one (7),
and by looking a leaf's value up, moving it into tree order, splitting it off and adding it."""


@dataclass(frozen=True)
class TensorGraph:
    """A compiled forest.

    Attributes:
        model: the serialised ONNX model.
        num_features: F.
        width: the largest number of matrix rows of any tensor: its elements
            are `width` times the batch's rows.
        traffic: bytes that the operators read and write per row of a batch,
            the tables not counted: they stay in the caches.
    """

    model: bytes
    num_features: int
    width: int
    traffic: int


def compile_forest(forest: Forest) -> TensorGraph:
    """Compiles a forest.

    Raises:
        UnsupportedModelError: the forest's trees are too deep, or its
            categories no small whole numbers; see `tabulate`.
    """
    tables = tabulate(forest)
    graph = _Graph()
    columns = _columns(graph, forest, tables)
    values = graph.concat([_walk(graph, columns, tables, group) for group in tables.groups])
    total = graph.add("Add", _sum(graph, values, tables.position), graph.constant(forest.base))
    graph.add("Sigmoid" if forest.logistic else "Identity", total, output=OUTPUT)

    trees = len(forest.roots)
    steps = sum(len(group.roots) * (group.steps - 1) for group in tables.groups)
    return TensorGraph(
        model=graph.finish(forest.num_features),
        num_features=forest.num_features,
        width=max(trees, tables.num_columns, forest.num_features),
        traffic=trees * (FIRST_STEP_BYTES + SUM_BYTES) + steps * STEP_BYTES,
    )


class _Graph:
    """An ONNX graph in the making; names its tensors itself."""

    def __init__(self) -> None:
        self._proto = GraphProto(name="forest")
        self._constants: dict[int, tuple[str, object]] = {}  # by id; holds on to the array

    def constant(self, values: NDArray[np.generic] | np.generic) -> str:
        """Adds an initializer; the same array is added once."""
        if id(values) not in self._constants:
            name = f"c{len(self._constants)}"
            self._proto.initializer.append(numpy_helper.from_array(np.asarray(values), name))
            self._constants[id(values)] = name, values
        return self._constants[id(values)][0]

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds an operator with one output."""
        name = output or f"t{len(self._proto.node)}"
        self._proto.node.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def split(self, matrix: str, parts: int) -> list[str]:
        """Splits a matrix into its rows."""
        names = [f"t{len(self._proto.node)}.{part}" for part in range(parts)]
        self._proto.node.append(helper.make_node("Split", [matrix], names, axis=0))
        return names

    def concat(self, matrices: list[str]) -> str:
        """Puts matrices on top of each other."""
        return matrices[0] if len(matrices) == 1 else self.add("Concat", *matrices, axis=0)

    def finish(self, num_features: int) -> bytes:
        """Declares input and output, and serialises."""
        floats = TensorProto.FLOAT
        self._proto.input.append(helper.make_tensor_value_info(INPUT, floats, ["n", num_features]))
        self._proto.output.append(helper.make_tensor_value_info(OUTPUT, floats, [1, "n"]))
        model: ModelProto = helper.make_model(
            self._proto,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="ranker",
        )
        return model.SerializeToString()


def _columns(graph: _Graph, forest: Forest, tables: NodeTables) -> str:
    """Turns the rows into columns, float32 [num_columns, n]."""
    features = graph.add("Transpose", INPUT, perm=[1, 0])
    if forest.floored.any():
        floored = graph.constant(forest.floored[:, None])
        features = graph.add("Where", floored, graph.add("Floor", features), features)
    parts = []
    if len(tables.kept):
        parts.append(graph.add("Gather", features, graph.constant(tables.kept), axis=0))
    if len(tables.filled):
        values = graph.add("Gather", features, graph.constant(tables.filled), axis=0)
        missing = graph.add("IsNaN", values)
        parts.append(graph.add("Where", missing, graph.constant(np.float32(np.inf)), values))
    if tables.sets is not None:
        parts.append(_set_columns(graph, features, tables.sets))
    return graph.concat(parts)


def _set_columns(graph: _Graph, features: str, sets: SetTables) -> str:
    """The categorical splits' columns, float32 [K, n]."""
    values = graph.add("Gather", features, graph.constant(sets.features), axis=0)
    whole = graph.add("Equal", values, graph.add("Floor", values))
    not_negative = graph.add("GreaterOrEqual", values, graph.constant(np.float32(0)))
    not_beyond = graph.add("LessOrEqual", values, graph.constant(sets.largest))
    known = graph.add("And", whole, graph.add("And", not_negative, not_beyond))
    codes = graph.add("Where", known, values, graph.constant(sets.largest + 1))
    missing = graph.add("IsNaN", values)
    codes = graph.add("Where", missing, graph.constant(sets.largest + 2), codes)
    codes = graph.add("Cast", codes, to=TensorProto.INT32)
    entries = graph.add("Gather", codes, graph.constant(sets.feature_of_set), axis=0)
    entries = graph.add("Add", entries, graph.constant(sets.begin))
    right = graph.add("Gather", graph.constant(sets.goes_right), entries, axis=0)
    return graph.add("Cast", right, to=TensorProto.FLOAT)


def _walk(graph: _Graph, columns: str, tables: NodeTables, group: Group) -> str:
    """Walks a group's trees; returns the leaves' values, float32 [trees, n]."""
    # All rows start at the same nodes, so the first step needs no gathers of node tables.
    roots = group.roots
    values = graph.add("Gather", columns, graph.constant(tables.column[roots]), axis=0)
    thresholds = graph.constant(tables.threshold[roots][:, None])
    left = graph.constant(tables.left[roots][:, None])
    node = _step(graph, values, thresholds, left)
    for _ in range(group.steps - 1):
        column = graph.add("Gather", graph.constant(tables.column), node, axis=0)
        values = graph.add("GatherElements", columns, column, axis=0)
        thresholds = graph.add("Gather", graph.constant(tables.threshold), node, axis=0)
        left = graph.add("Gather", graph.constant(tables.left), node, axis=0)
        node = _step(graph, values, thresholds, left)
    return graph.add("Gather", graph.constant(tables.value), node, axis=0)


def _step(graph: _Graph, values: str, thresholds: str, left: str) -> str:
    """The next nodes, int32 [trees, n]."""
    right = graph.add("GreaterOrEqual", values, thresholds)
    return graph.add("Add", left, graph.add("Cast", right, to=TensorProto.INT32))


def _sum(graph: _Graph, values: str, position: NDArray[np.int64]) -> str:
    """Adds the rows of a matrix up, from left to right, in the order of `position`; [1, n]."""
    terms: list[str] = []
    for begin in range(0, len(position), SPLIT_OUTPUTS):
        order = position[begin : begin + SPLIT_OUTPUTS]
        ordered = graph.add("Gather", values, graph.constant(order), axis=0)
        terms += graph.split(ordered, len(order))
    total = terms[0]
    for begin in range(1, len(terms), SUM_INPUTS - 1):
        total = graph.add("Sum", total, *terms[begin : begin + SUM_INPUTS - 1])
    return total
