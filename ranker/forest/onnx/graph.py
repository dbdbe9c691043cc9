"""The shape of graph that is nothing but a tree ensemble: the one operator, and what surrounds it.

    input [N, F] -> [floor some columns] -> tree ensemble -> [sigmoid] -> output

Operators that change no number (Identity, a Cast to float32, a Reshape of the
scores) may stand anywhere between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest.forest import MAX_FEATURES
from ranker.forest.onnx.node_table import Number

ML_OPSET = 5
"""The newest `ai.onnx.ml` operator set whose tree ensembles are known here."""

ENSEMBLES = ("TreeEnsemble", "TreeEnsembleRegressor")


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What a graph does before and after its tree ensemble.

    Attributes:
        num_features: F.
        floored: bool [F]; features that are rounded down before the trees.
        logistic: whether a sigmoid follows the trees.
    """

    num_features: int
    floored: NDArray[np.bool_]
    logistic: bool


def read_graph(model: ModelProto) -> tuple[int, Surroundings]:
    """Finds the tree ensemble in a model.

    Returns:
        The operator's place among the graph's nodes, a `TreeEnsemble` or a
        `TreeEnsembleRegressor`, and what surrounds it.

    Raises:
        ModelError: the graph is broken.
        UnsupportedModelError: the graph is more than a tree ensemble with one
            float32 matrix in and one score out; says what.
    """
    if model.functions:
        raise UnsupportedModelError("the model defines operators of its own")
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedModelError(
            f"{len(inputs)} inputs and {len(graph.output)} outputs; expected one of each"
        )
    num_features = _num_features(inputs[0])
    walk = _Walk(graph, constants)

    name = walk.skip_idle(graph.output[0].name, reshape=True)
    logistic = _is(walk.producer(name), "Sigmoid")
    if logistic:
        name = walk.skip_idle(walk.only_input(walk.producer(name)), reshape=True)
    made = name
    ensemble = walk.producer(made)
    if ensemble.domain != "ai.onnx.ml" or ensemble.op_type not in ENSEMBLES:
        raise UnsupportedModelError(
            f"the scores come from operator {ensemble.op_type!r}; expected {' or '.join(ENSEMBLES)}"
        )
    _check_opset(model)

    name = walk.skip_idle(walk.only_input(ensemble))
    floored = np.zeros(num_features, np.bool_)
    if name != inputs[0].name:
        floored, name = walk.floored(walk.producer(name), num_features)
    if name != inputs[0].name:
        raise UnsupportedModelError(
            f"operator {walk.producer(name).op_type!r} changes the features before the trees"
        )
    place = next(i for i, node in enumerate(graph.node) if made in node.output)
    return place, Surroundings(num_features, floored, logistic)


def _check_opset(model: ModelProto) -> None:
    """Whether the tree ensemble's meaning is one that is known here."""
    versions = [opset.version for opset in model.opset_import if opset.domain == "ai.onnx.ml"]
    if not versions:
        raise ModelError("imports no ai.onnx.ml opset: broken, or truncated")
    if max(versions) > ML_OPSET:
        raise UnsupportedModelError(
            f"ai.onnx.ml opset {max(versions)}: only opsets up to {ML_OPSET} are known"
        )


def _num_features(value: ValueInfoProto) -> int:
    """F, from the declared shape of the graph's input."""
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = _type_name(tensor.elem_type)
        raise UnsupportedModelError(f"input {value.name!r} is {kind}; expected float")
    if len(tensor.shape.dim) != 2:
        raise UnsupportedModelError(
            f"input {value.name!r} has {len(tensor.shape.dim)} dimensions; "
            "expected [rows, features]"
        )
    num_features = tensor.shape.dim[1].dim_value
    if not 0 < num_features <= MAX_FEATURES:
        raise ModelError(
            f"input {value.name!r} declares {num_features} features; expected 1..{MAX_FEATURES}"
        )
    return num_features


def _is(node: NodeProto, op_type: str) -> bool:
    """Whether a node is that operator of ONNX's own."""
    return node.op_type == op_type and node.domain in ("", "ai.onnx")


class _Walk:
    """Goes from the output to the input, one operator at a time.

    The operators' order in the file is not relied on, so a loop among them is
    possible; `_steps` runs out on it.
    """

    def __init__(self, graph: GraphProto, constants: dict[str, TensorProto]) -> None:
        self._constants = constants
        self._producers: dict[str, NodeProto] = {}
        self._steps = len(graph.node)
        for node in graph.node:
            for name in filter(None, node.output):  # an output that is left out has no name
                if name in self._producers:
                    raise ModelError(f"two operators make {name!r}")
                self._producers[name] = node

    def producer(self, name: str) -> NodeProto:
        node = self._producers.get(name)
        if node is None:
            raise UnsupportedModelError(f"no operator of a known kind makes {name!r}")
        return node

    def only_input(self, node: NodeProto) -> str:
        if len(node.input) != 1:
            raise ModelError(f"{node.op_type} has {len(node.input)} inputs; expected one")
        return node.input[0]

    def skip_idle(self, name: str, reshape: bool = False) -> str:
        """Goes back over operators that change no number; `reshape` counts as one of them."""
        while self._steps:
            node = self._producers.get(name)
            if node is None or not self._is_idle(node, reshape):
                return name
            name = node.input[0]
            self._steps -= 1
        return name

    def _is_idle(self, node: NodeProto, reshape: bool) -> bool:
        if _is(node, "Identity") and len(node.input) == 1:
            return True
        if _is(node, "Cast") and len(node.input) == 1:
            return any(a.name == "to" and a.i == TensorProto.FLOAT for a in node.attribute)
        if _is(node, "Reshape") and len(node.input) == 2 and reshape:
            shape = self._constant(node.input[1], np.int64)
            return shape.ndim == 1 and shape.tolist() in ([-1], [-1, 1])
        return False

    def floored(self, where: NodeProto, num_features: int) -> tuple[NDArray[np.bool_], str]:
        """Reads `Where(mask, Floor(x), x)`; returns the mask and the name of x."""
        unknown = UnsupportedModelError(
            f"operator {where.op_type!r} changes the features before the trees"
        )
        if not _is(where, "Where") or len(where.input) != 3:
            raise unknown
        mask_name, floor_name, name = where.input
        floor = self.producer(floor_name)
        if not _is(floor, "Floor"):
            raise unknown
        name = self.skip_idle(name)
        if self.skip_idle(self.only_input(floor)) != name:
            raise unknown
        mask = self._constant(mask_name, np.bool_)
        if mask.shape not in ((num_features,), (1, num_features)):
            raise unknown
        return mask.reshape(num_features), name

    def _constant(self, name: str, dtype: type[Number]) -> NDArray[Number]:
        if name not in self._constants:
            raise UnsupportedModelError(f"{name!r} is not a constant")
        return read_tensor(name, self._constants[name], dtype)


def read_tensor(name: str, tensor: TensorProto, dtype: type[Number]) -> NDArray[Number]:
    """A tensor's values, in the shape that it declares and that they really have.

    Raises:
        ModelError: it is of another type, or declares more or fewer values than
            it holds.
    """
    expected = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    if tensor.data_type != expected:
        raise ModelError(
            f"{name!r} is {_type_name(tensor.data_type)}; expected {_type_name(expected)}"
        )
    try:
        array = numpy_helper.to_array(tensor)
    except ValueError as error:
        raise ModelError(f"{name!r} is damaged: {error}") from error
    if array.shape != tuple(tensor.dims):
        raise ModelError(
            f"{name!r} declares the shape {list(tensor.dims)} and holds {list(array.shape)}"
        )
    return array.astype(dtype, copy=False)


def _type_name(elem_type: int) -> str:
    try:
        return TensorProto.DataType.Name(elem_type).lower()
    except ValueError:
        return f"type {elem_type}"
