"""Requests of the Open Inference Protocol, made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranker.inference import open_inference_pb2 as pb
from ranker.serving.open_inference.service import SERVICE
from tests.fakes import FakeCall
from tests.serving.support import Serving

INFER, STREAM = f"/{SERVICE}/ModelInfer", f"/{SERVICE}/ModelStreamInfer"


def parameter(value: Any) -> pb.InferParameter:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    return pb.InferParameter(**{kinds[type(value)]: value})


def infer_request(
    rows: Any, *, typed: bool = False, outputs: tuple[str, ...] = (), parameters: Any = (), **fields
) -> pb.ModelInferRequest:
    """A sound request, but for what the arguments say."""
    rows = np.asarray(rows, "<f4")
    request = pb.ModelInferRequest(**{"model_name": "books", **fields})
    tensor = request.inputs.add(name="candidates", datatype="FP32", shape=rows.shape)
    if typed:
        tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    else:
        request.raw_input_contents.append(rows.tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in dict(parameters).items():
        request.parameters[name].CopyFrom(parameter(value))
    return request


def tensors(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """The outputs of an answer, in its order."""
    kinds = {"FP32": "<f4", "INT64": "<i8"}
    assert len(response.outputs) == len(response.raw_output_contents)
    return {
        output.name: np.frombuffer(raw, kinds[output.datatype]).reshape(output.shape)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def infer(serving: Serving, message: Any, **call: Any) -> pb.ModelInferResponse:
    """Asks for one list; raises what it is refused with."""
    asked = FakeCall(**call)
    serving.send(INFER, asked, message)
    serving.turn_until_idle()
    if asked.error is not None:
        raise asked.error
    assert asked.over
    return pb.ModelInferResponse.FromString(asked.sent[0])
