"""An ONNX file as a parsed model: nothing is read but the file itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import uses_external_data

from ranker.errors import ModelError
from ranker.metadata import ModelMetadata
from ranker.onnx_reader.lists import ByPlace, take_lists

MAX_BYTES = 2**31 - 1
"""Protobuf's own limit on one message."""

Source = str | PathLike[str] | bytes
"""A path, or the file's content."""


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX file's content.

    Attributes:
        proto: all of it but `lists`.
        lists: the long lists of its graph's attributes.
    """

    proto: ModelProto
    lists: ByPlace


def read_bytes(source: Source) -> bytes:
    """The content of an ONNX file.

    Raises:
        ModelError: it can't be read, or is larger than any ONNX file can be.
    """
    if isinstance(source, bytes):
        return source
    path = Path(source)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{size} bytes, more than the {MAX_BYTES} that protobuf can hold")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror}") from error


def read_model(source: Source) -> OnnxModel:
    """Parses an ONNX file.

    A tensor may name another file that holds its data. Such a name can point
    anywhere on the machine, so a model that has one is refused.

    Raises:
        ModelError: it can't be read, is no ONNX file, or refers to other files.
    """
    rest, lists = take_lists(read_bytes(source))
    try:
        model = ModelProto.FromString(rest)
    except DecodeError as error:
        raise ModelError("not an ONNX file, or a truncated one: protobuf can't parse it") from error
    if not model.ir_version or not model.graph.node:
        raise ModelError(
            "not an ONNX file, or a truncated one: no IR version or no operators in it"
        )
    for tensor in _tensors(model):
        if uses_external_data(tensor) or tensor.external_data:
            raise ModelError(
                f"tensor {tensor.name!r} keeps its data in another file; expected all in one file"
            )
    return OnnxModel(model, lists)


def read_metadata(source: Source) -> ModelMetadata:
    """What an ONNX file says about its model beside the graph.

    Raises:
        ModelError: as `read_model`, or a value is not of its field's type.
    """
    props = read_model(source).proto.metadata_props
    return ModelMetadata.from_props({entry.key: entry.value for entry in props})


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model, wherever ONNX allows one."""
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)
    for function in model.functions:
        yield from _node_tensors(function.node)
        yield from _attribute_tensors(function.attribute_proto)
    yield from _graph_tensors(model.graph)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Iterable[AttributeProto]) -> Iterator[TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)
