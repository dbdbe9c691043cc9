"""Files that hold no model, or not all of one, are refused; no other file is opened for them."""

import os
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, helper

from ranker.errors import ModelError
from ranker.forest.onnx import read_forest
from tests.forest.onnx.onnx_models import model, tree_ensemble
from tests.forest.onnx.refusals import TREE, attribute, refused


@pytest.mark.parametrize("cut", [0, 1, 20, 0.5, -1], ids=str)
def test_truncated(cut):
    content = model(tree_ensemble([TREE])).SerializeToString()
    end = int(len(content) * cut) if isinstance(cut, float) else cut
    assert "not an ONNX file, or a truncated one" in refused(content[:end])


def test_every_truncation_is_refused():
    content = model(tree_ensemble([TREE])).SerializeToString()
    for end in range(len(content)):
        refused(content[:end])


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 64, b'{"learner": {}}', os.urandom(1000), b"binf" + b"\x01" * 100],
    ids=["empty", "zeros", "json", "noise", "xgboost-binary"],
)
def test_not_onnx(content):
    assert "not an ONNX file" in refused(content)


def test_no_such_file(tmp_path):
    with pytest.raises(ModelError, match="can't be read: No such file"):
        read_forest(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="can't be read: Is a directory"):
        read_forest(tmp_path)


def test_too_large(tmp_path: Path):
    path = tmp_path / "sparse.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelError, match="2147483648 bytes, more than"):
        read_forest(path)


def external(kind: str) -> ModelProto:
    """A model whose data lies in another file, named in one of the places that ONNX allows."""
    away = TensorProto(name="away", data_type=TensorProto.FLOAT, dims=[3])
    away.data_location = TensorProto.EXTERNAL
    away.external_data.add(key="location", value="../../etc/passwd")
    content = model(tree_ensemble([TREE]))
    if kind == "initializer":
        content.graph.initializer.append(away)
    elif kind == "sparse":
        content.graph.sparse_initializer.add().values.CopyFrom(away)
    elif kind == "attribute":
        attribute(content.graph.node[0], "nodes_splits").t.CopyFrom(away)
    elif kind == "attributes":
        content.graph.node[0].attribute.append(helper.make_attribute("many", [away]))
    elif kind == "subgraph":
        graph = helper.make_graph([], "inner", [], [], [away])
        content.graph.node[0].attribute.append(helper.make_attribute("body", graph))
    elif kind == "function":
        node = helper.make_node("Constant", [], ["c"], value=away)
        content.functions.add().node.append(node)
    elif kind == "training":
        content.training_info.add().algorithm.initializer.append(away)
    elif kind == "undeclared":
        away.data_location = TensorProto.DEFAULT
        content.graph.initializer.append(away)
    return content


@pytest.mark.parametrize(
    "kind",
    [
        "initializer",
        "sparse",
        "attribute",
        "attributes",
        "subgraph",
        "function",
        "training",
        "undeclared",
    ],
)
def test_external_data_is_refused(kind):
    message = refused(external(kind).SerializeToString())
    assert message == "tensor 'away' keeps its data in another file; expected all in one file"
