"""Bounds the fields of a message before it is parsed.

Parsing takes time and memory by the field, not by the byte: six megabytes of empty names are
three million strings, for which every other caller would wait. So the fields of a message that
can hold many are counted first, up to as many as may be.

The encoding is described at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from ranker.errors import InvalidRequestError

SMALL = 64 * 2**10
"""Bytes that are parsed without counting: that takes a millisecond or two at most."""

_NESTED = frozenset((4 << 3 | 2, 6 << 3 | 2))
"""The tags of the messages within a RankRequest, `candidates` and `context`."""

_FIXED = {1: 8, 5: 4}
"""Bytes of a value by the wire types that fix them."""

_LENGTH = 2


def check_fields(data: bytes, most: int) -> None:
    """Refuses a RankRequest that has more fields than any sound one.

    Of one that is broken nothing is said: that is found when it is parsed.

    Args:
        data: an encoded RankRequest.
        most: how many fields it may have; each element of a repeated field counts.

    Raises:
        InvalidRequestError: it has more.
    """
    end = len(data)
    at = inner_end = 0
    left = most
    try:
        while end - at > SMALL:  # what is left can't be many
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
                if tag in _NESTED and at >= inner_end:
                    inner_end = at + size
                else:
                    at += size
            elif kind in _FIXED:
                at += _FIXED[kind]
            elif kind == 0:
                while data[at] > 127:
                    at += 1
                at += 1
            # The begin and the end of a group have no value of their own.
    except IndexError:
        return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in base 128, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
