"""The messages of `inference`: requests to tasks, and scores to answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ranker.engine.api import Rows, Scores
from ranker.errors import InvalidRequestError, RankerError, UnimplementedError
from ranker.inference import open_inference_pb2 as pb
from ranker.model.order import best_first
from ranker.serving.field_limit import Nested, check_request
from ranker.serving.generation import Generation
from ranker.serving.open_inference.tensors import CANDIDATES, INDICES, OUTPUTS, Tensor
from ranker.serving.task import RankTask
from ranker.serving.wire import REQUEST_BYTES
from ranker.serving.wire_format import WireFormat
from ranker.status import to_status

_FLOAT32 = np.dtype("<f4")
_INT64 = np.dtype("<i8")

_ALL: NDArray[np.intp] = np.empty(0, np.intp)
"""Stands for the order of candidates that are not sorted."""

_MOST = 2**31 - 1
"""Of a number in the parameters."""

_FP32_TAG = pb.InferTensorContents.FP32_CONTENTS_FIELD_NUMBER << 3 | 2
"""Of floats that stand together, as a field's tag is encoded."""

_IGNORED = frozenset(("priority", "triton_enable_empty_final_response"))
"""Parameters that clients send by themselves, and that change nothing in an answer."""

_UNSUPPORTED = {
    "classification": "not supported; ask for indices and scores, with top_k",
    "shared_memory_region": "tensors in shared memory are not supported; send them in the message",
}
"""Parameters of tensors that would make an answer another one, and what to do instead."""

_NAMES = {tensor.name: tensor for tensor in OUTPUTS}


class _Asked(NamedTuple):
    """What a request says beside its candidates: a `ranker.serving.task.Asked`."""

    request_id: str
    model: str
    model_version: str
    unit: str
    deadline_ms: int = 0  # it may hold for a unary call too, and is seen to here


def read_infer_request(data: bytes, task: RankTask, generation: Generation, max_rows: int) -> None:
    """Fills a task with what a request asks for.

    Args:
        data: an encoded ModelInferRequest. The task keeps none of it but what it needs.
        task: the task.
        generation: the models that there are.
        max_rows: the most candidates that one request may have.

    Raises:
        NotFoundError: no such model.
        InvalidRequestError: names the field, what it holds and what was expected.
        UnimplementedError: it asks for what this server does not do.
        RankerError: whatever `RankTask.on_read` raises.
    """
    check_request(data, _NESTED, generation, max_rows)
    try:
        request = pb.ModelInferRequest.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError(
            "request", "not an inference.ModelInferRequest message"
        ) from error
    parameters = request.parameters
    unit = parameters["unit"].string_param if "unit" in parameters else ""
    asked = _Asked(request.id, request.model_name, request.model_version, unit)
    task.on_read(asked, generation)
    top_k = 0
    if parameters:
        top_k, seconds = _read_parameters(parameters)
        if seconds:
            task.hurry(seconds)
    task.outputs = _read_outputs(request) if request.outputs else OUTPUTS
    rows = _read_candidates(request, task.served.features.num_features, max_rows)
    task.candidates = rows
    task.rows = len(rows)
    task.top_k = top_k
    # Small whole numbers take more as rows than in the message.
    task.size = max(rows.nbytes, len(data)) + REQUEST_BYTES


def _read_parameters(parameters: Mapping[str, pb.InferParameter]) -> tuple[int, float]:
    """How many of the best are asked for, and within how many seconds; 0 is no limit."""
    top_k = 0
    limits = []
    for name, parameter in parameters.items():
        if name == "top_k":
            top_k = _count(name, parameter)
        elif name == "deadline_ms":
            limits.append(_count(name, parameter) / 1e3)
        elif name == "timeout":  # what Triton's clients call it, in microseconds
            limits.append(_count(name, parameter) / 1e6)
        elif name == "unit":
            if parameter.WhichOneof("parameter_choice") != "string_param":
                raise InvalidRequestError("parameters.unit", f"expected a text, got {parameter}")
        elif name not in _IGNORED:
            raise InvalidRequestError(
                "parameters",
                f"no such parameter, {name!r}; there are top_k, unit, deadline_ms and timeout",
            )
    return top_k, min((limit for limit in limits if limit), default=0.0)


def _count(name: str, parameter: pb.InferParameter) -> int:
    kind = parameter.WhichOneof("parameter_choice")
    value: Any = getattr(parameter, kind) if kind else None
    if kind not in ("int64_param", "uint64_param") or not 0 <= value <= _MOST:
        raise InvalidRequestError(
            f"parameters.{name}", f"expected a whole number from 0 to {_MOST}, got {value!r}"
        )
    return int(value)


def _read_outputs(request: pb.ModelInferRequest) -> tuple[Tensor, ...]:
    """The outputs that are asked for, in the order of the request."""
    asked: list[Tensor] = []
    for index, output in enumerate(request.outputs):
        place = f"outputs[{index}]"
        tensor = _NAMES.get(output.name)
        if tensor is None:
            raise InvalidRequestError(
                f"{place}.name", f"expected one of {', '.join(_NAMES)}, got {output.name!r}"
            )
        if tensor in asked:
            raise InvalidRequestError(f"{place}.name", f"{output.name!r} was already asked for")
        _check_tensor_parameters(place, output.parameters)
        asked.append(tensor)
    return tuple(asked)


def _check_tensor_parameters(place: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    """Refuses what would make a tensor another one; whatever else clients say is ignored."""
    for name in parameters:
        if name in _UNSUPPORTED:
            raise UnimplementedError(f"{place}.parameters.{name}: {_UNSUPPORTED[name]}")


def _read_candidates(request: pb.ModelInferRequest, features: int, max_rows: int) -> Rows:
    """The one input, checked: float32 [n, features], a view of the message's own bytes."""
    inputs, raw = request.inputs, request.raw_input_contents
    if len(inputs) != 1:
        names = ", ".join(repr(each.name) for each in inputs[:5]) or "none"
        raise InvalidRequestError(
            "inputs",
            f"expected one, {CANDIDATES.name!r} of all candidates and features, got {names}",
        )
    tensor = inputs[0]
    if tensor.name != CANDIDATES.name:
        raise InvalidRequestError(
            "inputs[0].name", f"expected {CANDIDATES.name!r}, got {tensor.name!r}"
        )
    if tensor.datatype != CANDIDATES.datatype:
        raise InvalidRequestError(
            "inputs[0].datatype", f"expected {CANDIDATES.datatype}, got {tensor.datatype!r}"
        )
    if tensor.parameters:
        _check_tensor_parameters("inputs[0]", tensor.parameters)
    shape = tensor.shape
    if len(shape) != 2 or shape[1] != features or not 0 < shape[0] <= max_rows:
        raise InvalidRequestError(
            "inputs[0].shape",
            f"expected [n, {features}], 1 to {max_rows} candidates and the model's {features} "
            f"features, got {list(shape[:9])}",
        )
    rows = shape[0]
    if not raw:
        return _read_contents(tensor.contents, rows * features).reshape(rows, features)
    if len(raw) != 1:
        raise InvalidRequestError(
            "raw_input_contents", f"expected one, as there is one input, got {len(raw)}"
        )
    if tensor.HasField("contents"):
        raise InvalidRequestError("inputs[0].contents", "expected none beside raw_input_contents")
    data = raw[0]
    if len(data) != rows * features * 4:
        raise InvalidRequestError(
            "raw_input_contents[0]",
            f"expected {rows} candidates x {features} features x 4 bytes = "
            f"{rows * features * 4} bytes, got {len(data)}",
        )
    return np.frombuffer(data, _FLOAT32).reshape(rows, features)


def _read_contents(contents: pb.InferTensorContents, size: int) -> NDArray[np.float32]:
    """So many elements that are not raw: float32 [size]."""
    found = len(contents.fp32_contents)
    if found != size:
        raise InvalidRequestError(
            "inputs[0].contents.fp32_contents", f"expected {size} elements, got {found}"
        )
    # As floats of Python's they would be made one by one. Encoded they stand together: after
    # a tag of one byte and their length, of which each byte holds seven bits.
    encoded = contents.SerializeToString()
    begin = 1 + -(-(4 * size).bit_length() // 7)
    if encoded[0] != _FP32_TAG or len(encoded) != begin + 4 * size:
        raise InvalidRequestError("inputs[0].contents", "expected nothing beside fp32_contents")
    return np.frombuffer(encoded, _FLOAT32, offset=begin)


def write_infer_response(task: RankTask, scores: Scores) -> bytes:
    """Encodes the answer to a task: a ModelInferResponse.

    Args:
        task: what is answered.
        scores: float32 [task.rows].
    """
    return _response(task, scores).SerializeToString()


def write_stream_response(task: RankTask, scores: Scores) -> bytes:
    """Encodes the answer to a stream's request: a ModelStreamInferResponse."""
    response = pb.ModelStreamInferResponse(infer_response=_response(task, scores))
    return response.SerializeToString()


def write_stream_refusal(task: RankTask, error: RankerError) -> bytes:
    """Encodes the answer to a stream's request that went wrong."""
    return pb.ModelStreamInferResponse(
        error_message=f"{error.code.name}: {to_status(error).message}",
        infer_response=pb.ModelInferResponse(id=task.request_id),
    ).SerializeToString()


def _response(task: RankTask, scores: Scores) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(
        model_name=task.served.name, model_version=task.served.version, id=task.request_id
    )
    order = best_first(scores, task.top_k) if task.top_k or INDICES in task.outputs else _ALL
    for tensor in task.outputs:
        values: NDArray[Any]
        if tensor is INDICES:
            values = order.astype(_INT64, copy=False)
        else:
            values = (scores[order] if task.top_k else scores).astype(_FLOAT32, copy=False)
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=values.shape)
        response.raw_output_contents.append(values.tobytes())
    if task.arm:
        response.parameters["arm"].string_param = task.arm
    return response


_NESTED_PARAMETERS: Nested = {2: {}}
"""An entry of a map, and its value."""

_NESTED: Nested = {
    pb.ModelInferRequest.PARAMETERS_FIELD_NUMBER: _NESTED_PARAMETERS,
    pb.ModelInferRequest.INPUTS_FIELD_NUMBER: {
        pb.ModelInferRequest.InferInputTensor.PARAMETERS_FIELD_NUMBER: _NESTED_PARAMETERS,
        pb.ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER: {},
    },
    pb.ModelInferRequest.OUTPUTS_FIELD_NUMBER: {
        pb.ModelInferRequest.InferRequestedOutputTensor.PARAMETERS_FIELD_NUMBER: _NESTED_PARAMETERS,
    },
}

INFER = WireFormat(read_infer_request, write_infer_response, write_stream_refusal)
"""Of `ModelInfer`."""

STREAM_INFER = INFER._replace(write=write_stream_response)
"""Of `ModelStreamInfer`."""
