"""Bounds the fields of a message before it is parsed.

Parsing takes time and memory by the field, not by the byte: six megabytes of empty names are
three million strings, for which every other caller would wait. So the fields of a message that
can hold many are counted first, up to as many as may be.

The encoding is described at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ranker.errors import InvalidRequestError

if TYPE_CHECKING:
    from ranker.serving.generation import Generation

SMALL = 64 * 2**10
"""Bytes that are parsed without counting: that takes a millisecond or two at most."""

Nested = Mapping[int, "Nested"]
"""The messages within a message, by the numbers of their fields, and the messages within those."""

_FIXED = {1: 8, 5: 4}
"""Bytes of a value by the wire types that fix them."""

_LENGTH = 2

_VARINT_BYTES = 10
"""That a number may have."""

_OTHER_FIELDS = 100
"""Of a request, beside the repeated ones; more than there are."""

_FIRST = 100
"""Fields among which an id is looked for; encoders write it first."""


def check_request(data: bytes, nested: Nested, generation: Generation, max_rows: int) -> None:
    """As `check_fields`, of a request to rank.

    Args:
        data: an encoded request; nothing is said of a small one.
        nested: the messages within it.
        generation: the models that there are.
        max_rows: the most candidates that one request may have.

    Raises:
        InvalidRequestError: it has more fields than a request to any of these models can have.
    """
    if len(data) > SMALL:
        widest = max(served.features.num_features for served in generation.models)
        # Ids; names of the candidates' and the context's features, and values.
        check_fields(data, max_rows + 3 * widest + _OTHER_FIELDS, nested)


def check_fields(data: bytes, most: int, nested: Nested) -> None:
    """Refuses a request that has more fields than any sound one.

    Of one that is broken nothing is said: that is found when it is parsed.

    Args:
        data: an encoded request.
        most: how many fields it may have; each element of a repeated field counts.
        nested: the messages within it.

    Raises:
        InvalidRequestError: it has more.
    """
    end = len(data)
    at = 0
    left = most
    inside: list[tuple[int, Nested]] = [(end, nested)]  # where each message ends, the inmost last
    try:
        while end - at > SMALL:  # what is left can't be many
            while at >= inside[-1][0]:
                inside.pop()
            left -= 1
            if left < 0:
                raise InvalidRequestError(
                    "request", f"expected at most {most} fields, names and ids in all, got more"
                )
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = _varint(data, at - 1)
            kind = tag & 7
            if kind == _LENGTH:
                size = data[at]
                at += 1
                if size > 127:
                    size, at = _varint(data, at - 1)
                within = inside[-1][1].get(tag >> 3)
                if within is None:
                    at += size
                else:
                    inside.append((at + size, within))
            elif kind in _FIXED:
                at += _FIXED[kind]
            elif kind == 0:
                _, at = _varint(data, at)
            # The begin and the end of a group have no value of their own.
    except (IndexError, _BrokenError):
        return


def find_text(data: bytes, number: int) -> str:
    """A text of a message that can't be parsed, or has too many fields for that; never raises.

    Args:
        data: an encoded message, or anything.
        number: the number of the text's field.

    Returns:
        The text, if it is among the message's first fields and in UTF-8; else an empty one.
    """
    found = b""
    at = 0
    with contextlib.suppress(_BrokenError):
        for _ in range(_FIRST):
            tag, at = _varint(data, at)
            kind = tag & 7
            if kind == _LENGTH:
                size, at = _varint(data, at)
                if tag >> 3 == number and at + size <= len(data):
                    found = data[at : at + size]
                at += size
            elif kind in _FIXED:
                at += _FIXED[kind]
            elif kind == 0:
                _, at = _varint(data, at)
            else:
                break  # a group, whose fields are not the message's own
    try:
        return found.decode()
    except UnicodeDecodeError:
        return ""


class _BrokenError(Exception):
    """The message is not an encoded one."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in base 128, and where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise _BrokenError
