"""Long lists of numbers, taken out of an ONNX file before protobuf parses the rest.

A tree ensemble keeps its nodes in attributes that are lists of integers and
floats. ONNX's schema has each number written with a tag before it, and
protobuf's parser makes 8 bytes of every integer, in arrays that grow by
doubling, on top of the file: five times its size for the exporter's form. Here
the lists are decoded piece by piece into arrays of the smallest type that holds
them, and the rest of the file, which is short, is left to protobuf.

Nothing is decided here about what is valid. Where anything about a message is
unusual, broken bytes included, it stays as it is, for protobuf to read or refuse.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.forest.onnx.node_table import Float32s
from ranker.memory_file import Content

MIN_BYTES = 1 << 16
"""Shorter attributes are left to protobuf."""

_PIECE = 1 << 16
"""Bytes of a list that are decoded at once: enough for NumPy, little in memory."""

_MAX_FIELDS = 100_000
"""Fields of all messages together, each walked in Python, beyond which the walk is given up."""

_MAX_RUNS = 100
"""The same of one attribute, which has about six."""

# A field's number and, in the lowest three bits, how its value is written.
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_MAX_TAG = 2**32 - 1
_MODEL_GRAPH = 7 << 3 | _SIZED
_GRAPH_NODE = 1 << 3 | _SIZED
_NODE_ATTRIBUTE = 5 << 3 | _SIZED
_FLOAT, _FLOATS = 7 << 3 | _FOUR_BYTES, 7 << 3 | _SIZED
_INT, _INTS = 8 << 3 | _VARINT, 8 << 3 | _SIZED

_TAGGED_FLOAT = np.dtype([("tag", np.uint8), ("value", "<f4")])

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Lists:
    """What was taken out of one attribute.

    Attributes:
        ints: all of its `ints`; uint8, int32 or int64, the smallest that holds them.
        floats: all of its `floats`.
    """

    ints: Integers
    floats: Float32s


ByPlace = dict[int, dict[int, Lists]]
"""Lists by the place of their node in the graph, then of their attribute in the node."""


def take_lists(content: Content) -> tuple[bytes, ByPlace]:
    """Takes the long lists of numbers out of the attributes of a model's graph.

    Returns:
        The file's content without them, and the lists. An attribute that is
        among them has no `ints` and no `floats` left.
    """
    lists: ByPlace = {}
    steps = iter(range(_MAX_FIELDS))
    nodes = itertools.count()

    def node(begin: int, end: int) -> list[bytes]:
        of_node = lists.setdefault(next(nodes), {})
        attributes = itertools.count()

        def attribute(begin: int, end: int) -> list[bytes] | None:
            place = next(attributes)
            taken = _take(content, begin, end) if end - begin >= MIN_BYTES else None
            if taken is None:
                return None
            rest, of_node[place] = taken
            return rest

        return _rewrite(content, begin, end, steps, _NODE_ATTRIBUTE, attribute)

    def graph(begin: int, end: int) -> list[bytes]:
        return _rewrite(content, begin, end, steps, _GRAPH_NODE, node)

    try:
        rest = _rewrite(content, 0, len(content), steps, _MODEL_GRAPH, graph)
    except _UnusualError:
        return bytes(content), {}
    return b"".join(rest), lists


class _UnusualError(Exception):
    """Bytes that are best left to protobuf."""


def _rewrite(
    content: Content,
    begin: int,
    end: int,
    steps: Iterator[int],
    tag: int,
    rewritten: Callable[[int, int], list[bytes] | None],
) -> list[bytes]:
    """A message in pieces, with each field `tag` rewritten unless that gives None."""
    pieces = []
    kept = begin
    for found, at, value, after in _fields(content, begin, end, steps):
        inner = rewritten(value, after) if found == tag else None
        if inner is not None:
            length = sum(map(len, inner))
            pieces += [content[kept:at], _varint_bytes(tag), _varint_bytes(length), *inner]
            kept = after
    return [*pieces, content[kept:end]] if pieces else [content[begin:end]]


def _take(content: Content, begin: int, end: int) -> tuple[list[bytes], Lists] | None:
    """Takes the lists out of one attribute; None if it is better left as it is."""
    rest: list[bytes] = []
    ints: list[Integers] = [np.empty(0, np.uint8)]
    floats: list[Float32s] = [np.empty(0, np.float32)]
    for _ in range(_MAX_RUNS):
        if begin == end:
            return rest, Lists(np.concatenate(ints), np.concatenate(floats))
        tag, value, after = _field(content, begin, end)
        if tag == _INT:
            after = _read_varints(content, begin, end, ints, tagged=True)
            if after == begin:  # its tag is longer than it need be
                raise _UnusualError
        elif tag == _INTS:
            if _read_varints(content, value, after, ints, tagged=False) < after:
                raise _UnusualError
        elif tag == _FLOAT:
            records = np.frombuffer(content, _TAGGED_FLOAT, (end - begin) // 5, begin)
            same = records["tag"] == _FLOAT
            run = len(same) if same.all() else int(same.argmin())
            if not run:
                raise _UnusualError
            floats.append(records["value"][:run].astype(np.float32))
            after = begin + run * _TAGGED_FLOAT.itemsize
        elif tag == _FLOATS:
            if (after - value) % 4:
                raise _UnusualError
            floats.append(np.frombuffer(content, "<f4", (after - value) // 4, value))
        else:
            rest.append(content[begin:after])
        begin = after
    return None


def _read_varints(
    content: Content, begin: int, end: int, into: list[Integers], tagged: bool
) -> int:
    """Decodes integers, each with its tag before it or all without.

    Returns:
        Where it stopped: at `end`, at another tag, or at a number that never ends.
    """
    while begin < end:
        piece = np.frombuffer(content, np.uint8, min(_PIECE, end - begin), begin)
        ends = np.flatnonzero(piece < 0x80) + 1
        begins = np.append(0, ends[:-1])
        if tagged:
            tags, begins, ends = begins[: len(ends) // 2 * 2 : 2], begins[1::2], ends[1::2]
            same = piece[tags] == _INT
            run = len(same) if same.all() else int(same.argmin())
            begins, ends = begins[:run], ends[:run]
        if not len(ends):
            break
        into.append(_decode(piece, begins, ends))
        begin += int(ends[-1])
    return begin


def _decode(piece: NDArray[np.uint8], begins: NDArray[np.intp], ends: NDArray[np.intp]) -> Integers:
    """Varints of one piece as numbers: seven bits a byte, the lowest first."""
    sizes = ends - begins
    values = (piece[begins] & 0x7F).astype(np.uint64)
    for byte in range(1, int(sizes.max())):
        (longer,) = np.nonzero(sizes > byte)
        if byte == 10:  # more than 64 bits
            raise _UnusualError
        more = piece[begins[longer] + byte] & 0x7F
        values[longer] |= more.astype(np.uint64) << np.uint64(7 * byte)
    signed = values.view(np.int64)
    least, most = signed.min(), signed.max()
    if least >= 0 and most < 2**8:
        return signed.astype(np.uint8)
    if least >= -(2**31) and most < 2**31:
        return signed.astype(np.int32)
    return signed


def _fields(
    content: Content, begin: int, end: int, steps: Iterator[int]
) -> Iterator[tuple[int, int, int, int]]:
    """A message's fields: tag, where the field begins, where its value, where it ends.

    Each takes one of the steps, which all messages share.
    """
    for _ in steps:
        if begin == end:
            return
        tag, value, after = _field(content, begin, end)
        yield tag, begin, value, after
        begin = after
    raise _UnusualError


def _field(content: Content, begin: int, end: int) -> tuple[int, int, int]:
    """A field's tag, where its value begins, and where it ends."""
    tag, value = _varint(content, begin, end)
    if tag > _MAX_TAG:
        raise _UnusualError
    kind = tag & 7
    if kind == _VARINT:
        _, after = _varint(content, value, end)
    elif kind == _SIZED:
        length, value = _varint(content, value, end)
        after = value + length
    elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
        after = value + (8 if kind == _EIGHT_BYTES else 4)
    else:
        raise _UnusualError
    if after > end:
        raise _UnusualError
    return tag, value, after


def _varint(content: Content, begin: int, end: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = 0
    for at in range(begin, min(begin + 10, end)):
        number |= (content[at] & 0x7F) << 7 * (at - begin)
        if content[at] < 0x80:
            return number, at + 1
    raise _UnusualError


def _varint_bytes(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
