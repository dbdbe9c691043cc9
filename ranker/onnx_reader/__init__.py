"""Reads tree ensembles out of ONNX files.

From the file inwards: `file` and `lists` (bytes to model), `graph` (model to its
one tree ensemble), `operators` and `attributes` (operator to a table of nodes,
`table`), `growth` (table to `Forest`).
"""

from __future__ import annotations

from ranker.forest import Forest
from ranker.onnx_reader.file import Source, read_model
from ranker.onnx_reader.graph import Surroundings, read_graph
from ranker.onnx_reader.growth import grow
from ranker.onnx_reader.operators import read_trees
from ranker.onnx_reader.table import NodeTable


def read_forest(source: Source) -> Forest:
    """Reads a tree ensemble from an ONNX file.

    The operators' specification is followed. Where onnxruntime departs from it,
    and where a float32 sum in tree order would not be exact, the model is
    refused, so that a Forest scores as onnxruntime does on one thread.

    Args:
        source: a path, or the file's content.

    Raises:
        ModelError: the file or its trees are broken; names the node.
        UnsupportedModelError: a sound model that is more than a Forest; says why.
    """
    return grow(*_read_table(source))


def _read_table(source: Source) -> tuple[NodeTable, Surroundings]:
    """The file's nodes; what else it takes in memory ends here."""
    model = read_model(source)
    place, around = read_graph(model.proto)
    ensemble = model.proto.graph.node[place]
    return read_trees(ensemble, model.lists.get(place, {}), around.num_features), around
