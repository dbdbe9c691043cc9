"""The Open Inference Protocol in JSON: what is read, what is written, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import InvalidRequestError
from ranker.inference import open_inference_pb2 as pb
from ranker.office.infer_json import (
    AskedTensors,
    Form,
    as_plain,
    read_infer_json,
    write_infer_json,
)
from ranker.office.json_text import read_json


def tensor(data: Any = None, shape: Any = (2, 2), **fields: Any) -> dict[str, Any]:
    made = {"name": "candidates", "shape": list(shape), "datatype": "FP32", **fields}
    return made if data is None else {**made, "data": data}


def read(value: Any, tail: bytes = b"") -> AskedTensors:
    return read_infer_json(read_json(json.dumps(value).encode(), 100, nan=True), tail)


def rows(asked: AskedTensors) -> np.ndarray:
    [raw] = asked.message.raw_input_contents
    return np.frombuffer(raw, "<f4").reshape(asked.message.inputs[0].shape)


@pytest.mark.parametrize(
    "data",
    [[[1, 2.5], [None, -3]], [1, 2.5, None, -3], [1, 2.5, math.nan, -3]],
    ids=["rows", "flat", "nan"],
)
def test_numbers(data):
    asked = read({"inputs": [tensor(data)]})
    np.testing.assert_array_equal(rows(asked), np.float32([[1, 2.5], [math.nan, -3]]))
    assert asked.seconds == 10
    assert asked.form == Form(binary=False, by_output={})


def test_a_whole_number_is_rounded_once():
    asked = read({"inputs": [tensor([2**60 + 2**36 + 1, 0, 0, 0])]})
    assert rows(asked)[0, 0] == 2**60 + 2**37


def test_bytes_that_follow():
    sent = np.float32([[1, 2], [3, math.nan]])
    about = {"binary_data_size": sent.nbytes, "content_type": "np"}
    asked = read({"inputs": [tensor(parameters=about)]}, sent.tobytes())
    np.testing.assert_array_equal(rows(asked), sent)
    assert list(asked.message.inputs[0].parameters) == ["content_type"]


def test_what_is_asked_for():
    asked = read(
        {
            "id": "r7",
            "model_name": "any",
            "inputs": [tensor([[1, 2], [3, 4]])],
            "outputs": [
                {"name": "scores", "parameters": {"binary_data": False}},
                {"name": "indices", "parameters": {"classification": 3}},
            ],
            "parameters": {
                "top_k": 3,
                "unit": "reader",
                "x": 1.5,
                "y": True,
                "deadline_ms": 50,
                "binary_data_output": True,
            },
        }
    )
    message = asked.message
    assert (message.id, message.model_name) == ("r7", "")
    assert {name: str(value).strip() for name, value in message.parameters.items()} == {
        "top_k": "int64_param: 3",
        "unit": 'string_param: "reader"',
        "x": "double_param: 1.5",
        "y": "bool_param: true",
        "deadline_ms": "int64_param: 50",
    }
    assert [output.name for output in message.outputs] == ["scores", "indices"]
    assert message.outputs[1].parameters["classification"].int64_param == 3
    assert asked.seconds == 0.05
    assert asked.form == Form(binary=True, by_output={"scores": False})


@pytest.mark.parametrize(
    ("parameters", "seconds"),
    [
        pytest.param({}, 10, id="nothing"),
        pytest.param({"deadline_ms": 50}, 0.05, id="short"),
        pytest.param({"deadline_ms": 59_999}, 59.999, id="long"),
        pytest.param({"deadline_ms": 60_000}, 60, id="longest"),
        pytest.param({"deadline_ms": 2**62}, 60, id="too-long"),
        pytest.param({"timeout": 30_000_000}, 30, id="microseconds"),
        pytest.param({"timeout": 10**9}, 60, id="too-many-microseconds"),
        pytest.param({"timeout": 20_000, "deadline_ms": 50}, 0.02, id="both"),
        pytest.param({"timeout": 0, "deadline_ms": 20_000}, 20, id="nothing-is-no-limit"),
        pytest.param({"deadline_ms": "50", "timeout": True}, 10, id="for-the-worker-to-refuse"),
    ],
)
def test_how_long_it_may_take(parameters, seconds):
    asked = read({"inputs": [tensor([1, 2, 3, 4])], "parameters": parameters})
    assert asked.seconds == seconds


def test_a_type_that_no_model_takes_is_left_to_the_worker():
    asked = read({"inputs": [tensor(["a"], (1,), datatype="BYTES")]})
    assert asked.message.inputs[0].datatype == "BYTES"
    assert not asked.message.raw_input_contents


@pytest.mark.parametrize(
    ("value", "tail", "field"),
    [
        pytest.param([], b"", "request", id="no-object"),
        pytest.param({}, b"", "inputs", id="no-inputs"),
        pytest.param({"inputs": [], "model": "x"}, b"", "model", id="unknown-field"),
        pytest.param({"inputs": [tensor()] * 17}, b"", "inputs", id="many-inputs"),
        pytest.param({"inputs": [tensor()]}, b"", "inputs[0].data", id="no-data"),
        pytest.param({"inputs": [tensor([1, 2, 3])]}, b"", "inputs[0].data", id="flat-too-short"),
        pytest.param({"inputs": [tensor([[1, 2]])]}, b"", "inputs[0].data", id="rows-too-few"),
        pytest.param(
            {"inputs": [tensor([[1, 2], [3]])]}, b"", "inputs[0].data[1]", id="row-too-short"
        ),
        pytest.param({"inputs": [tensor([[1, 2], 3])]}, b"", "inputs[0].data[1]", id="no-row"),
        pytest.param(
            {"inputs": [tensor([[1, 2], [3, "4"]])]}, b"", "inputs[0].data[1][1]", id="text"
        ),
        pytest.param({"inputs": [tensor([1, 2, 3, True])]}, b"", "inputs[0].data[3]", id="bool"),
        pytest.param({"inputs": [tensor([1, 2, 3, 1e39])]}, b"", "inputs[0].data[3]", id="big"),
        pytest.param({"inputs": [tensor([], (-1, 2))]}, b"", "inputs[0].shape[0]", id="shape"),
        pytest.param({"inputs": [tensor([], (2**40,))]}, b"", "inputs[0].shape[0]", id="large"),
        pytest.param({"inputs": [tensor([], [1] * 9)]}, b"", "inputs[0].shape", id="dimensions"),
        pytest.param({"inputs": [tensor([1, 2, 3, 4])]}, b"x", "inputs", id="bytes-of-nobody"),
        pytest.param(
            {"inputs": [tensor(parameters={"binary_data_size": 16})]},
            bytes(15),
            "inputs[0].parameters.binary_data_size",
            id="bytes-missing",
        ),
        pytest.param(
            {"inputs": [tensor([1, 2, 3, 4], parameters={"binary_data_size": 16})]},
            bytes(16),
            "inputs[0].data",
            id="data-twice",
        ),
        pytest.param(
            {"inputs": [], "parameters": {"top_k": None}}, b"", "parameters.top_k", id="null"
        ),
        pytest.param(
            {"inputs": [], "parameters": {"top_k": 2**63}}, b"", "parameters.top_k", id="64-bits"
        ),
        pytest.param(
            {"inputs": [], "parameters": {"binary_data_output": 1}},
            b"",
            "parameters.binary_data_output",
            id="flag",
        ),
        pytest.param({"inputs": [], "outputs": [{"name": 3}]}, b"", "outputs[0].name", id="name"),
        pytest.param({"inputs": [], "outputs": 0}, b"", "outputs", id="outputs-nothing"),
        pytest.param({"inputs": [], "outputs": {}}, b"", "outputs", id="outputs-object"),
        pytest.param({"inputs": [], "id": 3}, b"", "id", id="id"),
    ],
)
def test_what_is_no_request_is_refused(value, tail, field):
    with pytest.raises(InvalidRequestError) as caught:
        read(value, tail)
    assert caught.value.field == field


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["name", "shape", "datatype", "data", "parameters", "binary_data_size"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"inputs": st.one_of(JSON, st.lists(JSON, max_size=2))},
        optional={"outputs": JSON, "parameters": JSON, "id": JSON},
    ),
    st.binary(max_size=20),
)
def test_whatever_comes_is_read_or_refused(value, tail):
    try:
        asked = read_infer_json(value, tail)
    except InvalidRequestError:
        return
    asked.message.SerializeToString()


def answer() -> tuple[pb.ModelInferResponse, np.ndarray, np.ndarray]:
    scores, indices = np.float32([0.1, math.nan]), np.array([1, 0])
    response = pb.ModelInferResponse(model_name="books", model_version="7", id="r7")
    response.outputs.add(name="scores", datatype="FP32", shape=[2])
    response.outputs.add(name="indices", datatype="INT64", shape=[2])
    response.raw_output_contents.extend([scores.tobytes(), indices.astype("<i8").tobytes()])
    response.parameters["arm"].string_param = "canary"
    return response, scores, indices


def test_an_answer_in_json():
    response, scores, _ = answer()
    text, tail = write_infer_json(response.SerializeToString(), Form(binary=False, by_output={}))
    assert tail == b""
    assert json.loads(text) == {
        "model_name": "books",
        "model_version": "7",
        "id": "r7",
        "parameters": {"arm": "canary"},
        "outputs": [
            # All digits of 32 bits; JSON has no NaN.
            {"name": "scores", "datatype": "FP32", "shape": [2], "data": [float(scores[0]), None]},
            {"name": "indices", "datatype": "INT64", "shape": [2], "data": [1, 0]},
        ],
    }


def test_an_answer_in_bytes():
    response, scores, indices = answer()
    form = Form(binary=True, by_output={"indices": False})
    text, tail = write_infer_json(response.SerializeToString(), form)
    first, second = json.loads(text)["outputs"]
    assert first["parameters"] == {"binary_data_size": 8}
    assert "data" not in first
    assert tail == scores.tobytes()
    assert second["data"] == indices.tolist()


def test_numbers_of_64_bits_stay_numbers():
    message = pb.ModelMetadataResponse(name="books", versions=["7"])
    message.inputs.add(name="candidates", datatype="FP32", shape=[-1, 3])
    assert as_plain(message) == {
        "name": "books",
        "versions": ["7"],
        "platform": "",
        "inputs": [{"name": "candidates", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [],
    }
    config = pb.ModelConfig(input=[pb.ModelInput(data_type=pb.TYPE_FP32)])
    assert as_plain(config)["input"][0]["data_type"] == "TYPE_FP32"
