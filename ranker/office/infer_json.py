"""The Open Inference Protocol in JSON: to ModelInferRequests, and ModelInferResponses back.

With Triton's extension, by which tensors may follow the JSON as they are in memory:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from google.protobuf.message import Message

from ranker.errors import InvalidRequestError
from ranker.inference import open_inference_pb2 as pb
from ranker.office.json_text import as_count, as_flag, as_object, as_text, shown
from ranker.office.rank_json import DEFAULT_MS, MOST_MS, pack_floats

FIELDS = ("id", "parameters", "inputs", "outputs", "model_name")
"""What a request may say. KServe's clients repeat the model's name; the one in the path counts."""

BINARY = "binary_data_size"
"""The parameter of a tensor whose elements follow the JSON: how many bytes they are."""

_MOST_TENSORS = 16
_MOST_DIMENSIONS = 8
_MOST = 2**31 - 1

_LIMITS = {"deadline_ms": 10**3, "timeout": 10**6}
"""Parameters that say how long a request may take: how many of each are a second."""

_CODES = {"FP32": "f", "INT64": "q"}
"""Of `array`, by the protocol's names of types: those of the answers."""


@dataclass
class Form:
    """How an answer is to be written.

    Attributes:
        binary: whether outputs are to follow the JSON.
        by_output: likewise, of outputs of which the request says so.
    """

    binary: bool
    by_output: Mapping[str, bool]


@dataclass
class AskedTensors:
    """A request, read.

    Attributes:
        message: what it asks for, without the model.
        seconds: how long it may take.
        form: how the answer is to be written.
    """

    message: pb.ModelInferRequest
    seconds: float
    form: Form


def read_infer_json(value: Any, tail: bytes) -> AskedTensors:
    """Reads a request.

    What is not in the protocol is refused here, and what the model does not take by the worker.

    Args:
        value: an object with some of `FIELDS`, as JSON was read.
        tail: what follows the JSON.

    Raises:
        InvalidRequestError: names the field, what it holds and what was expected.
    """
    asked = as_object("", value, FIELDS)
    parameters = dict(_object("parameters", asked.get("parameters")))
    binary = as_flag("parameters.binary_data_output", parameters.pop("binary_data_output", False))
    message = pb.ModelInferRequest(id=as_text("id", asked.get("id", "")))
    _read_parameters("parameters", parameters, message.parameters)
    taken = 0
    for index, tensor in enumerate(_list("inputs", asked.get("inputs"), _MOST_TENSORS)):
        taken += _read_input(f"inputs[{index}]", tensor, tail[taken:], message)
    if taken != len(tail):
        raise InvalidRequestError(
            "inputs", f"{len(tail)} bytes follow the JSON, and the inputs have {taken} of them"
        )
    by_output: dict[str, bool] = {}
    outputs = asked.get("outputs")
    outputs = [] if outputs is None else _list("outputs", outputs, _MOST_TENSORS)
    for index, output in enumerate(outputs):
        place = f"outputs[{index}]"
        said = as_object(place, output, ("name", "parameters"))
        name = as_text(f"{place}.name", said.get("name", ""))
        about = dict(_object(f"{place}.parameters", said.get("parameters")))
        if "binary_data" in about:
            by_output[name] = as_flag(f"{place}.parameters.binary_data", about.pop("binary_data"))
        added = message.outputs.add(name=name)
        _read_parameters(f"{place}.parameters", about, added.parameters)
    return AskedTensors(message, _seconds(parameters), Form(binary, by_output))


def write_infer_json(answer: bytes, form: Form) -> tuple[bytes, bytes]:
    """An encoded ModelInferResponse as JSON, and what follows it."""
    response = pb.ModelInferResponse.FromString(answer)
    written: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
    }
    if response.id:
        written["id"] = response.id
    if response.parameters:
        written["parameters"] = {
            name: getattr(value, str(value.WhichOneof("parameter_choice")))
            for name, value in response.parameters.items()
        }
    tail = []
    outputs: list[dict[str, Any]] = []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if form.by_output.get(output.name, form.binary):
            tensor["parameters"] = {BINARY: len(raw)}
            tail.append(raw)
        else:
            tensor["data"] = _numbers(output.datatype, raw)
        outputs.append(tensor)
    written["outputs"] = outputs
    return json.dumps(written, allow_nan=False).encode(), b"".join(tail)


def as_plain(message: Message) -> dict[str, Any]:
    """A message as JSON, with the names of the .proto and with whole numbers as numbers.

    Protobuf's own JSON writes 64 bits as texts, which the protocol's clients do not expect.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            kind = field.message_type
            if kind is None or not kind.GetOptions().map_entry:
                found[field.name] = [_plain(field, each) for each in value]
        elif field.message_type is None or message.HasField(field.name):
            found[field.name] = _plain(field, value)
    return found


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return as_plain(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def _read_input(place: str, value: Any, tail: bytes, message: pb.ModelInferRequest) -> int:
    """Adds one input; returns how many bytes of what follows the JSON are its own."""
    said = as_object(place, value, ("name", "shape", "datatype", "parameters", "data"))
    parameters = dict(_object(f"{place}.parameters", said.get("parameters")))
    tensor = message.inputs.add(
        name=as_text(f"{place}.name", said.get("name", "")),
        datatype=as_text(f"{place}.datatype", said.get("datatype", "")),
        shape=[
            as_count(f"{place}.shape[{index}]", size, _MOST)
            for index, size in enumerate(
                _list(f"{place}.shape", said.get("shape"), _MOST_DIMENSIONS)
            )
        ],
    )
    binary = BINARY in parameters
    if binary:
        where = f"{place}.parameters.{BINARY}"
        size = as_count(where, parameters.pop(BINARY), _MOST)
        if "data" in said:
            raise InvalidRequestError(f"{place}.data", f"expected none beside {BINARY}")
        if size > len(tail):
            raise InvalidRequestError(where, f"{size} bytes, of which {len(tail)} have come")
        message.raw_input_contents.append(tail[:size])
    elif tensor.datatype == "FP32":  # any other type the worker refuses
        floats = _read_data(f"{place}.data", said.get("data"), tensor.shape)
        message.raw_input_contents.append(floats)
    _read_parameters(f"{place}.parameters", parameters, tensor.parameters)
    return size if binary else 0


def _read_data(place: str, data: Any, shape: Sequence[int]) -> bytes:
    """Elements that stand in the JSON, flat or row by row, as float32 in little-endian bytes."""
    if not isinstance(data, list):
        raise InvalidRequestError(place, f"expected a list of numbers, got {shown(data)}")
    if len(shape) == 2 and data and isinstance(data[0], list):
        if len(data) != shape[0]:
            raise InvalidRequestError(
                place, f"expected {shape[0]} rows, as the shape says, got {len(data)}"
            )
        columns = shape[1]
        for index, row in enumerate(data):
            if not isinstance(row, list) or len(row) != columns:
                raise InvalidRequestError(
                    f"{place}[{index}]",
                    f"expected a list of {columns} numbers, as the shape says, got {shown(row)}",
                )
        return pack_floats(
            list(chain.from_iterable(data)),
            lambda number: f"{place}[{number // columns}][{number % columns}]",
        )
    expected = math.prod(shape)
    if len(data) != expected:
        raise InvalidRequestError(
            place, f"expected {expected} numbers, as the shape says, got {len(data)}"
        )
    return pack_floats(data, lambda number: f"{place}[{number}]")


def _read_parameters(place: str, said: Mapping[str, Any], into: Any) -> None:
    """Fills a map of parameters."""
    for name, value in said.items():
        as_text(place, name)
        if isinstance(value, bool):
            into[name].bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            into[name].int64_param = value
        elif isinstance(value, float):
            into[name].double_param = value
        elif isinstance(value, str):
            into[name].string_param = as_text(f"{place}.{name}", value)
        else:
            raise InvalidRequestError(
                f"{place}.{name}", f"expected a text, a number or a boolean, got {shown(value)}"
            )


def _seconds(parameters: Mapping[str, Any]) -> float:
    """How long the office waits: as long as the request says, within limits.

    What can't be is the worker's to refuse.
    """
    limits = [
        min(said / in_a_second, MOST_MS / 1000)
        for name, in_a_second in _LIMITS.items()
        if type(said := parameters.get(name)) is int and said > 0
    ]
    return min(limits, default=DEFAULT_MS / 1000)


def _numbers(datatype: str, raw: bytes) -> list[float | int | None]:
    values = array(_CODES[datatype])
    values.frombytes(raw)
    if sys.byteorder == "big":
        values.byteswap()
    # JSON has no NaN and no infinity; a model's scores may be.
    return [value if math.isfinite(value) else None for value in values]


def _object(place: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(place, f"expected an object, got {shown(value)}")
    return value


def _list(place: str, value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise InvalidRequestError(place, f"expected a list of at most {most}, got {shown(value)}")
    return value
