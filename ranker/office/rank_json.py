"""Candidate lists in JSON: to RankRequests, and RankResponses back to JSON."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ranker.errors import InvalidRequestError
from ranker.office.json_text import as_count, as_object, as_text, as_texts, shown
from ranker.v1 import ranking_pb2 as pb

FIELDS = (
    "candidates",
    "feature_names",
    "context",
    "ids",
    "top_k",
    "explain",
    "request_id",
    "unit",
    "deadline_ms",
)
"""What a request may say."""

SHARED = "parameters"
"""Where Vertex AI's requests have what holds for all of their lists."""

MOST_MS = 60_000
"""The longest time that a request may ask for, in milliseconds."""

DEFAULT_MS = 10_000
"""What it gets if it asks for none."""

MOST_EXPLAINED = 100
"""The most candidates that a request may have explained: each is a text for each feature."""

MOST_EXPLAINED_BYTES = 8 * 2**20
"""Of explanations in one answer, as JSON. With long names they could be hundreds of megabytes."""

_NUMBER_BYTES = 25
"""The most that a float32 takes in JSON, -1.1754943508222875e-38, and what parts it from others."""

MOST_NAMES = 2**16
"""The most features that a request may name."""

_MOST_CELLS = 2**19
"""Of candidates that do not all have the same names, of which each could bring its own: as many as
a body has room for where all have the same."""

_INFINITIES = (struct.pack("<f", math.inf), struct.pack("<f", -math.inf))
_BELOW_53_BITS = bytes(byte for byte in range(256) if byte & 0x7F < 0x5A)
"""What the last byte of a float32, its sign and most of its exponent, may be below 2**53."""

_NAN = math.nan
_NUMBERS = frozenset((float, int))
_CELLS = _NUMBERS | {type(None)}


@dataclass
class Asked:
    """A request, read.

    Attributes:
        message: what it asks for, without the model.
        seconds: how long it may take.
        lacking: features that some candidates lack, and the first that does.
        nameless: whether its candidates are objects, and none of them has a feature.
        shared: fields that it has from the defaults.
    """

    message: pb.RankRequest
    seconds: float
    lacking: Mapping[str, int] = field(default_factory=dict)
    nameless: bool = False
    shared: Collection[str] = ()


def read_rank_json(
    value: Any, most_rows: int, place: str = "", defaults: Mapping[str, Any] | None = None
) -> Asked:
    """Reads a request.

    Args:
        value: an object with some of `FIELDS`, as JSON was read.
        most_rows: the most candidates that it may have.
        place: where it stands, for errors; empty for the body itself.
        defaults: fields that hold where the object has none; in errors they are in `SHARED`.

    Raises:
        InvalidRequestError: names the field, what it holds and what was expected.
    """
    defaults = defaults or {}
    own = as_object(place, value, FIELDS)
    asked = {**defaults, **own}
    shared = defaults.keys() - own.keys()
    within = f"{place}." if place else ""

    def at(field: str) -> str:
        return f"{SHARED}.{field}" if field in shared else f"{within}{field}"

    rows = asked.get("candidates")
    if not isinstance(rows, list):
        raise InvalidRequestError(
            at("candidates"), f"expected a list of candidates, got {shown(rows)}"
        )
    if not 0 < len(rows) <= most_rows:
        raise InvalidRequestError(
            at("candidates"), f"expected 1 to {most_rows} candidates, got {len(rows)}"
        )
    message = pb.RankRequest(
        request_id=as_text(at("request_id"), asked.get("request_id", "")),
        unit=as_text(at("unit"), asked.get("unit", "")),
        candidate_ids=as_texts(at("candidate_ids"), asked.get("ids", []), most_rows),
        top_k=as_count(at("top_k"), asked.get("top_k", 0), 2**31 - 1),
        explain=as_count(at("explain"), asked.get("explain", 0), MOST_EXPLAINED),
        feature_names=as_texts(at("feature_names"), asked.get("feature_names", []), MOST_NAMES),
    )
    lacking: Mapping[str, int] = {}
    nameless = False
    if isinstance(rows[0], dict):
        if message.feature_names:
            raise InvalidRequestError(
                at("feature_names"), "not with candidates that are objects and name their own"
            )
        names, rows, lacking = _table(at("candidates"), rows)
        message.feature_names.extend(names)
        nameless = not names
    message.candidates.CopyFrom(write_matrix(at("candidates"), rows, message.feature_names))
    context = asked.get("context")
    if context is not None:
        message.context.CopyFrom(_context(at("context"), context))
    milliseconds = as_count(at("deadline_ms"), asked.get("deadline_ms", 0), MOST_MS)
    return Asked(message, (milliseconds or DEFAULT_MS) / 1000, lacking, nameless, shared)


def _context(place: str, context: Any) -> pb.Context:
    """Features that all candidates share."""
    if not isinstance(context, dict):
        raise InvalidRequestError(place, f"expected an object, got {shown(context)}")
    names = _names(place, context)
    packed = pack_floats(list(context.values()), lambda column: f"{place}.{names[column]}")
    return pb.Context(feature_names=names, values=struct.unpack(f"<{len(names)}f", packed))


def write_matrix(place: str, rows: Sequence[Any], names: Sequence[str] = ()) -> pb.Matrix:
    """A table of numbers.

    Args:
        place: what to call it in an error.
        rows: lists of numbers and None, which is missing; one or more.
        names: of the columns, for errors.

    Raises:
        InvalidRequestError: names the first cell that is something else, or can't be.
    """
    for index, row in enumerate(rows):
        if not isinstance(row, list):
            raise InvalidRequestError(
                f"{place}[{index}]", f"expected a list of numbers, as the first, got {shown(row)}"
            )
        if len(row) != len(rows[0]):
            raise InvalidRequestError(
                f"{place}[{index}]",
                f"expected {len(rows[0])} values, as many as the first, got {len(row)}",
            )
    columns = len(rows[0])

    def cell(number: int) -> str:
        index, column = divmod(number, columns)
        name = f".{names[column]}" if column < len(names) else f"[{column}]"
        return f"{place}[{index}]{name}"

    return pb.Matrix(
        rows=len(rows),
        columns=columns,
        data_type=pb.DATA_TYPE_FLOAT32,
        data=pack_floats(list(chain.from_iterable(rows)), cell),
    )


def write_rank_json(answer: bytes, share: float = 1.0) -> dict[str, Any]:
    """An encoded RankResponse as what is written in JSON.

    Args:
        answer: the response.
        share: how much of `MOST_EXPLAINED_BYTES` its explanations may have.

    Raises:
        InvalidRequestError: they would have more.
    """
    response = pb.RankResponse.FromString(answer)
    timing = response.timing
    written: dict[str, Any] = {
        "model": response.model,
        "model_version": response.model_version,
        "indices": list(response.indices),
        "scores": [_number(score) for score in response.scores],
        "timing": {
            "queue_us": timing.queue_us,
            "scoring_us": timing.scoring_us,
            "total_us": timing.total_us,
        },
    }
    if response.candidate_ids:
        written["ids"] = list(response.candidate_ids)
    if response.arm:
        written["arm"] = response.arm
    if response.request_id:
        written["request_id"] = response.request_id
    if response.explanations:
        names = response.explained_feature_names
        _check_size(response, share)
        written["explanations"] = [_explanation(each, names) for each in response.explanations]
    return written


def _check_size(response: pb.RankResponse, share: float) -> None:
    """Refuses explanations that would be too long in JSON."""
    features = len(response.explanations[0].contributions)
    names = len(json.dumps(list(response.explained_feature_names)))
    row = names + features * _NUMBER_BYTES
    most, rows = int(share * MOST_EXPLAINED_BYTES) // row, len(response.explanations)
    if rows > most:
        raise InvalidRequestError(
            "explain",
            f"expected at most {most} candidates of these {features} features: more would be "
            f"more than {MOST_EXPLAINED_BYTES >> 20} MiB of JSON; got {rows}",
        )


def _explanation(explanation: pb.Explanation, names: Sequence[str]) -> dict[str, Any]:
    """Contributions by name, or in a list if the model has no names."""
    values = [_number(value) for value in explanation.contributions]
    return {
        "bias": _number(explanation.bias),
        "contributions": dict(zip(names, values, strict=True)) if names else values,
    }


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity; a model's numbers may be."""
    return value if math.isfinite(value) else None


def _table(
    place: str, objects: Sequence[Any]
) -> tuple[list[str], list[list[Any]], Mapping[str, int]]:
    """Candidates that are objects: all of their names, their rows, and who lacks what."""
    names = dict.fromkeys(_names(f"{place}[0]", objects[0]))
    ragged = False
    for index, each in enumerate(objects):
        if not isinstance(each, dict):
            raise InvalidRequestError(
                f"{place}[{index}]", f"expected an object, as the first, got {shown(each)}"
            )
        if each.keys() != names.keys():
            ragged = True
            names.update(dict.fromkeys(_names(f"{place}[{index}]", each)))
            if len(names) * len(objects) > _MOST_CELLS:
                raise InvalidRequestError(
                    place, f"more than {_MOST_CELLS} values, those that are missing among them"
                )
    order = list(names)
    if not ragged:
        return order, [[each[name] for name in order] for each in objects], {}
    lacking: dict[str, int] = {}
    for index, each in enumerate(objects):
        for name in order:
            if name not in each:
                lacking.setdefault(name, index)
    return order, [[each.get(name) for name in order] for each in objects], lacking


def _names(place: str, named: Mapping[str, Any]) -> list[str]:
    """The names of an object's fields."""
    if len(named) > MOST_NAMES:
        raise InvalidRequestError(
            place, f"expected at most {MOST_NAMES} features, got {len(named)}"
        )
    return [as_text(place, name) for name in named]


def pack_floats(values: Sequence[Any], name: Callable[[int], str]) -> bytes:
    """Numbers in float32, little-endian; None is NaN.

    Args:
        values: numbers and None.
        name: what to call the one at an index in an error.

    Raises:
        InvalidRequestError: names the first one that is something else, or can't be.
    """
    numbers, types = values, set(map(type, values))
    if not types <= _NUMBERS:
        if not types <= _CELLS:
            index = next(i for i, value in enumerate(values) if type(value) not in _CELLS)
            raise InvalidRequestError(
                name(index),
                f"expected a number, or null for a missing value, got {shown(values[index])}",
            )
        numbers = [_NAN if value is None else value for value in values]
    data = _pack(numbers)
    if int in types and (not data or _has_large(data, values)):
        numbers = [_to_53_bits(each) if type(each) is int else each for each in numbers]
        data = _pack(numbers)
    # The bytes of two numbers may look like those of an infinity.
    if not data or any(infinity in data for infinity in _INFINITIES):
        for index, number in enumerate(numbers):
            if not _pack([number]) or math.isinf(number):
                raise InvalidRequestError(name(index), f"{shown(values[index])} is beyond 32 bits")
    return data


def _pack(numbers: Sequence[float]) -> bytes:
    """Numbers in float32; empty if one is too large, or there are none."""
    try:
        return struct.pack(f"<{len(numbers)}f", *numbers)
    except (OverflowError, struct.error):  # the latter for whole numbers that are too large
        return b""


def _has_large(data: bytes, values: Sequence[Any]) -> bool:
    """Whether there are numbers of 2**53 and more among values, which these float32 are."""
    large = len(data[3::4].translate(None, _BELOW_53_BITS))  # and NaN
    return large > 0 and large > values.count(None)


def _to_53_bits(value: int) -> int:
    """A whole number that becomes the same float32, and loses nothing as a float of 64 bits.

    To round it twice is not the same as once: a tie may come of the first time. So the last of its
    53 bits says whether anything was cut off after it ("round to odd": S. Boldo and G. Melquiond,
    Emulation of FMA and correctly rounded sums, IEEE Transactions on Computers 57, 2008).
    """
    cut = abs(value).bit_length() - 53
    if cut <= 0:
        return value
    kept = abs(value) >> cut << cut
    if kept != abs(value):
        kept |= 1 << cut
    return kept if value > 0 else -kept
