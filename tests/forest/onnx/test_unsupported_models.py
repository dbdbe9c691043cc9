"""Models that are in order, but not for this engine, are refused as just that."""

import pytest
from onnx import ModelProto, TensorProto, helper

from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest.onnx import read_forest
from tests.forest.onnx.onnx_models import model, regressor, tensor, tree_ensemble
from tests.forest.onnx.refusals import TREE, change, refused


def unsupported(content: ModelProto) -> str:
    return refused(content.SerializeToString(), UnsupportedModelError)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"aggregate_function": 0}, "aggregate_function AVERAGE", id="average"),
        pytest.param({"aggregate_function": 9}, "aggregate_function 9", id="unknown-aggregate"),
        pytest.param({"post_transform": 2}, "post_transform LOGISTIC", id="logistic"),
        pytest.param({"n_targets": 3}, "n_targets 3", id="multi-target"),
        pytest.param(
            {"nodes_splits": tensor(TensorProto.DOUBLE, [0.1, 0.2, 0.3])}, "float64", id="double"
        ),
    ],
)
def test_unsupported_tree_ensemble(changes, message):
    assert message in unsupported(model(change(tree_ensemble([TREE]), **changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"aggregate_function": "MAX"}, "aggregate_function MAX", id="max"),
        pytest.param({"post_transform": "PROBIT"}, "post_transform PROBIT", id="probit"),
        pytest.param({"n_targets": 2}, "n_targets 2", id="multi-target"),
        pytest.param({"target_nodeids": {0: 1}}, "node 2: the leaf has no", id="weight-moved"),
        pytest.param(
            {
                "target_weights": [1.0] * 5,
                "target_ids": [0] * 5,
                "target_treeids": [0] * 5,
                "target_nodeids": [2, 3, 5, 6, 1],
            },
            "node 1: a split with a weight",
            id="weight-on-split",
        ),
        pytest.param(
            {
                "nodes_values": None,
                "nodes_values_as_tensor": tensor(TensorProto.DOUBLE, [0.0] * 7),
            },
            "float64",
            id="double",
        ),
        pytest.param(
            {"nodes_modes": {0: "BRANCH_NEQ"}}, "node 0: BRANCH_NEQ sends NaN", id="neq-nan-false"
        ),
    ],
)
def test_unsupported_regressor(changes, message):
    content = model(change(regressor([TREE]), **changes), ml_opset=3)
    with pytest.raises(ModelError, match=message):
        read_forest(content.SerializeToString())


def test_unsupported_graphs():
    content = model(tree_ensemble([TREE]))
    content.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    assert "input 'x' is double" in unsupported(content)

    content = model(tree_ensemble([TREE]))
    content.graph.output.add().name = "z"
    assert "1 inputs and 2 outputs" in unsupported(content)

    content = model(tree_ensemble([TREE]))
    content.opset_import[1].version = 6
    assert "ai.onnx.ml opset 6" in unsupported(content)

    content = model(tree_ensemble([TREE]))
    del content.opset_import[1]
    assert "imports no ai.onnx.ml opset" in refused(content.SerializeToString())

    content = model(tree_ensemble([TREE]))
    content.functions.add().name = "TreeEnsemble"
    assert "operators of its own" in unsupported(content)

    ensemble = tree_ensemble([TREE])
    ensemble.input[0] = "log"
    content = model(helper.make_node("Log", ["x"], ["log"]), ensemble)
    assert "'Log' changes the features" in unsupported(content)

    ensemble = tree_ensemble([TREE])
    ensemble.input[0] = "cast"
    content = model(helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.DOUBLE), ensemble)
    assert "'Cast' changes the features" in unsupported(content)

    content = model(helper.make_node("Identity", ["y"], ["y"]))
    assert "'Identity'" in unsupported(content)

    content = model(tree_ensemble([TREE]))
    content.graph.output[0].name = "elsewhere"
    assert "'elsewhere'" in unsupported(content)
