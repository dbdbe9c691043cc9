"""Reads tree ensembles out of ONNX files.

From the file inwards: `file` and `lists` (bytes to model), `graph` (model to its
one tree ensemble), `operators` and `attributes` (operator to a table of nodes,
`node_table`), `growth` (table to `Forest`). `covers` reads what only explanations need.
"""

from __future__ import annotations

from os import PathLike

from ranker.forest.forest import Forest
from ranker.forest.onnx.covers import read_leaf_covers
from ranker.forest.onnx.file import OnnxFile
from ranker.forest.onnx.graph import Surroundings, read_graph
from ranker.forest.onnx.growth import grow
from ranker.forest.onnx.node_table import NodeTable
from ranker.forest.onnx.operators import read_trees

__all__ = ["OnnxFile", "read_forest"]


def read_forest(source: OnnxFile | bytes | str | PathLike[str]) -> Forest:
    """Reads a tree ensemble from an ONNX file.

    The operators' specification is followed. Where onnxruntime departs from it,
    and where a float32 sum in tree order would not be exact, the model is
    refused, so that a Forest scores as onnxruntime does on one thread. There are two
    exceptions, in which onnxruntime 1.32 does not do what the specification says:

    - Of two sets of one feature, the second below the first and both with equal leaves,
      it ignores that the second sends NaN another way. XGBoost agrees with the specification.
    - In a `TreeEnsemble`, some sets (BRANCH_MEMBER), such as those with a member from 32
      on, become bit masks, and it looks for a value in them without the value's fraction:
      3.5 is in a set that has 3. Here, as specified, it is not. No code of a category has a
      fraction, and the files that `ranker export` writes round values down before.

    Args:
        source: the file, its content, or its path.

    Raises:
        ModelError: the file or its trees are broken; names the node.
        UnsupportedModelError: a sound model that is more than a Forest; says why.
    """
    if isinstance(source, bytes):
        source = OnnxFile(source)
    elif not isinstance(source, OnnxFile):
        source = OnnxFile.read(source)
    return grow(*_read_table(source))


def _read_table(file: OnnxFile) -> tuple[NodeTable, Surroundings]:
    """The file's nodes; what else it takes in memory ends here."""
    proto, lists = file.parsed()
    place, around = read_graph(proto)
    ensemble = proto.graph.node[place]
    covers = read_leaf_covers(proto)
    return read_trees(ensemble, lists.get(place, {}), around.num_features, covers), around
