"""The onnxruntime engine: which models it takes, and how it passes rows and threads on."""

import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ranker.engine.onnx import OnnxEngine
from ranker.errors import ModelError
from ranker.forest.onnx import OnnxFile

DATA = Path(__file__).parents[1] / "forest" / "onnx" / "data"
FEATURES = 5


@pytest.fixture(scope="module")
def engine() -> OnnxEngine:
    return OnnxEngine(OnnxFile.read(DATA / "xgboost_regressor.onnx"))


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, np.ndarray]:
    """Rows, and XGBoost's own scores of them."""
    scores = np.load(DATA / "scores.npz")
    return scores["rows_with_missing"], scores["xgboost_regressor"]


def linear(inputs: list[tuple], outputs: list[tuple], nodes: list) -> bytes:
    """A model of ordinary operators; inputs and outputs as (name, type, shape)."""
    weights = numpy_helper.from_array(np.arange(3, dtype=np.float32).reshape(3, 1), "w")
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


X = ("x", TensorProto.FLOAT, ["n", 3])
Y = ("y", TensorProto.FLOAT, ["n", 1])
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"])


def test_scores_as_xgboost_to_the_bit(engine, truth):
    rows, expected = truth
    assert engine.name == "onnx"
    assert engine.num_features == FEATURES
    got = engine.score([rows])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param([], id="one-block"),
        pytest.param([7], id="two-blocks"),
        pytest.param([1, 2, 2, 150], id="with-an-empty-block"),
    ],
)
def test_blocks_are_one_batch(engine, truth, cuts):
    rows, expected = truth
    np.testing.assert_array_equal(engine.score(np.split(rows, cuts)), expected)


def test_no_rows(engine):
    got = engine.score([np.empty((0, FEATURES), np.float32)])
    assert got.shape == (0,)
    assert got.dtype == np.float32


def test_unaligned_and_read_only_rows(engine, truth):
    rows, expected = truth
    content = b"\0" + rows.tobytes()
    odd = np.frombuffer(content, np.uint8)[1:].view(np.float32).reshape(rows.shape)
    assert not odd.flags.aligned
    np.testing.assert_array_equal(engine.score([odd]), expected)


def test_many_callers_at_once(engine, truth):
    rows, expected = truth
    wrong = []

    def call(begin: int) -> None:
        for i in range(begin, begin + 100):
            got = engine.score([rows[i : i + 20]])
            if not np.array_equal(got, expected[i : i + 20]):
                wrong.append(i)

    callers = [threading.Thread(target=call, args=(begin,)) for begin in range(0, 80, 20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_threads_change_last_bits_only(truth):
    rows, expected = truth
    got = OnnxEngine(OnnxFile.read(DATA / "xgboost_regressor.onnx"), threads=2).score([rows])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_model_without_trees():
    got = OnnxEngine(OnnxFile(linear([X], [Y], [PRODUCT]))).score(
        [np.array([[1, 2, 3]], np.float32)]
    )
    assert got.tolist() == [8]


@pytest.mark.parametrize(
    "shape", [pytest.param(["n"], id="vector"), pytest.param(["n", 1], id="column")]
)
def test_shapes_of_the_score(shape):
    axes = numpy_helper.from_array(np.array([1]))
    nodes = [PRODUCT]
    if len(shape) == 1:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["column"]),
            helper.make_node("Constant", [], ["axes"], value=axes),
            helper.make_node("Squeeze", ["column", "axes"], ["y"]),
        ]
    engine = OnnxEngine(OnnxFile(linear([X], [("y", TensorProto.FLOAT, shape)], nodes)))
    assert engine.score([np.ones((4, 3), np.float32)]).tolist() == [3, 3, 3, 3]


def test_the_score_is_found_beside_a_label():
    nodes = [
        PRODUCT,
        helper.make_node("Cast", ["y"], ["label"], to=TensorProto.INT64),
        helper.make_node("Concat", ["y", "y"], ["both"], axis=1),
    ]
    outputs = [
        ("label", TensorProto.INT64, ["n", 1]),
        ("both", TensorProto.FLOAT, ["n", 2]),
        Y,
    ]
    assert OnnxEngine(OnnxFile(linear([X], outputs, nodes))).score(
        [np.ones((1, 3), np.float32)]
    ) == [3]


IDENTITY = helper.make_node("Identity", ["y"], ["z"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            linear([X, ("b", TensorProto.FLOAT, ["n", 1])], [Y], [PRODUCT]),
            "2 inputs; expected one",
            id="two-inputs",
        ),
        pytest.param(
            linear(
                [("x", TensorProto.DOUBLE, ["n", 3])],
                [("y", TensorProto.DOUBLE, ["n", 3])],
                [helper.make_node("Identity", ["x"], ["y"])],
            ),
            r"'x' is tensor\(double\) \['n', 3\]; expected tensor\(float\)",
            id="double",
        ),
        pytest.param(
            linear(
                [("x", TensorProto.FLOAT, [3])],
                [("y", TensorProto.FLOAT, [3])],
                [helper.make_node("Identity", ["x"], ["y"])],
            ),
            r"'x' is tensor\(float\) \[3\]; expected tensor\(float\) \[rows, features\]",
            id="vector",
        ),
        pytest.param(
            linear([("x", TensorProto.FLOAT, [1, 3])], [Y], [PRODUCT]),
            "takes 1 rows at a time",
            id="fixed-batch",
        ),
        pytest.param(
            linear([("x", TensorProto.FLOAT, ["n", "f"])], [Y], [PRODUCT]),
            "doesn't say how many features",
            id="unknown-width",
        ),
        pytest.param(
            linear([X], [Y, ("z", TensorProto.FLOAT, ["n", 1])], [PRODUCT, IDENTITY]),
            "2 outputs can be the score",
            id="two-scores",
        ),
        pytest.param(
            linear(
                [X],
                [("y", TensorProto.FLOAT, ["n", 3])],
                [helper.make_node("Identity", ["x"], ["y"])],
            ),
            r"0 outputs can be the score; .*\['n', 3\]",
            id="three-columns",
        ),
        pytest.param(
            linear(
                [X],
                [("y", TensorProto.FLOAT, None)],
                [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
            ),
            "can't score 3 rows of 3 features",
            id="one-number-for-all-rows",
        ),
        pytest.param(
            linear([X], [Y], [helper.make_node("Mutmal", ["x", "w"], ["y"])]),
            "onnxruntime can't load it: .*Mutmal",
            id="unknown-operator",
        ),
        pytest.param(b"GIF89a", "not an ONNX file", id="not-onnx"),
    ],
)
def test_other_models_are_refused(content, message):
    with pytest.raises(ModelError, match=message):
        OnnxEngine(OnnxFile(content))


def test_external_data_never_reaches_onnxruntime(monkeypatch):
    model = ModelProto.FromString(linear([X], [Y], [PRODUCT]))
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(ModelError, match="'w' keeps its data in another file"):
        OnnxEngine(OnnxFile(model.SerializeToString()))
