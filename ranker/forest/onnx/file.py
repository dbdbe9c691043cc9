"""An ONNX file as a parsed model: nothing is read but the file itself."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from os import PathLike

from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import uses_external_data

from ranker.errors import ModelError
from ranker.forest.onnx.lists import ByPlace, take_lists
from ranker.memory_file import Content, mapped, read_into_memory

MAX_BYTES = 2**31 - 1
"""Protobuf's own limit on one message."""


class OnnxFile:
    """An ONNX file, parsed and checked. Nothing is read but the file itself.

    A tensor may name another file that holds its data. Such a name can point
    anywhere on the machine, so a model that has one is refused.

    Args:
        content: the file's bytes, which may be mapped.

    Attributes:
        content: likewise.
        props: what the file says about its model beside the graph (`metadata_props`).

    Raises:
        ModelError: it is no ONNX file, or refers to other files.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self._parsed: tuple[ModelProto, ByPlace] | None = _parse(content)
        self.props = {prop.key: prop.value for prop in self._parsed[0].metadata_props}

    @classmethod
    def read(cls, path: str | PathLike[str]) -> OnnxFile:
        """Reads a file, once.

        Raises:
            ModelError: it can't be read, or as above.
        """
        try:
            fd = read_into_memory(path, MAX_BYTES)
        except OSError as error:
            raise ModelError(f"can't be read: {error.strerror}") from error
        except ValueError as error:
            raise ModelError(f"{error} in protobuf") from error
        try:
            return cls(mapped(fd))
        finally:
            os.close(fd)

    def parsed(self) -> tuple[ModelProto, ByPlace]:
        """The parsed model, handed over: large, and parsed again when it is asked for again.

        Returns:
            All of it but the long lists of its graph's attributes; and these.
        """
        parsed, self._parsed = self._parsed or _parse(self.content), None
        if isinstance(self.content, mmap.mmap):
            # The pages stay in the file, and need not stay in this process as well: they
            # would be a third of what loading a large model takes.
            self.content.madvise(mmap.MADV_DONTNEED)
        return parsed


def _parse(content: Content) -> tuple[ModelProto, ByPlace]:
    rest, lists = take_lists(content)
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
    return model, lists


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
