"""Tables of any library that speaks Arrow, read by the Arrow PyCapsule interface.

A table hands out a stream of record batches as C structures, laid out as
https://arrow.apache.org/docs/format/CDataInterface.html and CStreamInterface.html
say; how the buffers are laid out is in
https://arrow.apache.org/docs/format/Columnar.html. All that is kept is copied out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.frames.column import Column, Labels, encoded, in_use, joined, labels

_NUMBERS = {
    b"c": "<i1",
    b"C": "<u1",
    b"s": "<i2",
    b"S": "<u2",
    b"i": "<i4",
    b"I": "<u4",
    b"l": "<i8",
    b"L": "<u8",
    b"e": "<f2",
    b"f": "<f4",
    b"g": "<f8",
}
_OFFSETS = {b"u": "<i4", b"U": "<i8"}
_VIEW = np.dtype([("length", "<i4"), ("prefix", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
_SPARSE = 16
"""A dictionary so many times as long as what is used of it is not read as a whole."""

_INLINE = 12
"""The bytes of a text that lie in the view itself."""


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.POINTER(_Array)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))),
    ("private_data", ctypes.c_void_p),
]
_STREAM = ctypes.POINTER(_Stream)
_Stream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, _STREAM, ctypes.POINTER(_Schema))),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, _STREAM, ctypes.POINTER(_Array))),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, _STREAM)),
    ("release", ctypes.CFUNCTYPE(None, _STREAM)),
    ("private_data", ctypes.c_void_p),
]

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


def read_arrow(table: Any) -> tuple[list[str], list[Column]] | None:
    """The names and the columns of a table.

    Args:
        table: has `__arrow_c_stream__`, or `__arrow_c_array__` (a record batch).

    Returns:
        None if it is no table but a single column.

    Raises:
        InvalidRequestError: a column is of a type that has no place here.
    """
    if not hasattr(table, "__arrow_c_stream__"):
        schema_capsule, array_capsule = table.__arrow_c_array__()
        schema = _Schema.from_address(_pointer(schema_capsule, b"arrow_schema"))
        return _read(schema, [_Array.from_address(_pointer(array_capsule, b"arrow_array"))])
    capsule = table.__arrow_c_stream__()
    stream = _Stream.from_address(_pointer(capsule, b"arrow_array_stream"))
    schema = _Schema()
    _check(stream, stream.get_schema(stream, schema))
    batches: list[_Array] = []
    try:
        batches.extend(_batches(stream))
        return _read(schema, batches)
    finally:
        for batch in batches:
            batch.release(batch)
        schema.release(schema)


def _batches(stream: _Stream) -> Iterator[_Array]:
    while True:
        batch = _Array()
        _check(stream, stream.get_next(stream, batch))
        if not batch.release:
            return  # the end
        yield batch


def _check(stream: _Stream, code: int) -> None:
    if code:
        reason = (stream.get_last_error(stream) or b"").decode(errors="replace")
        raise InvalidRequestError("features", f"its library can't give it as Arrow: {reason}")


def _read(schema: _Schema, batches: list[_Array]) -> tuple[list[str], list[Column]] | None:
    if schema.format != b"+s":
        return None
    names, columns = [], []
    for index in range(schema.n_children):
        field = schema.children[index].contents
        name = (field.name or b"").decode()
        place = f"features, column {name!r}"
        chunks = [_chunk(place, field, batch, index) for batch in batches]
        names.append(name)
        columns.append(joined(chunks) if chunks else np.empty(0, np.float32))
    return names, columns


def _chunk(place: str, field: _Schema, batch: _Array, index: int) -> Column:
    """A column's rows of one batch."""
    if not _valid(batch, batch.offset, batch.length).all():
        raise InvalidRequestError("features", "a row of the table is null")
    array = batch.children[index].contents
    return _column(place, field, array, array.offset + batch.offset, batch.length)


def _column(place: str, field: _Schema, array: _Array, begin: int, count: int) -> Column:
    kind: bytes = field.format
    valid = _valid(array, begin, count)
    if field.dictionary:
        indices = _numbers(array, _NUMBERS[kind], begin, count).astype(np.int64)
        indices[~valid] = -1
        used, positions = in_use(indices)
        values = _dictionary(place, field.dictionary.contents, array.dictionary.contents, used)
        gone = np.array([value is None for value in values] + [True])
        positions = np.where(gone[positions], -1, positions)
        return labels(place, ("" if value is None else value for value in values), positions)
    if kind == b"n":
        return np.full(count, np.nan, np.float32)
    if kind == b"b":
        return _with_missing(_bits(array.buffers[1], begin, count), valid)
    if kind in _NUMBERS:
        return _with_missing(_numbers(array, _NUMBERS[kind], begin, count), valid)
    if kind == b"vu" or kind in _OFFSETS:
        return encoded(place, _texts(kind, array, begin, valid))
    raise InvalidRequestError(
        place, f"expected numbers, text or categories, got Arrow's type {kind.decode()!r}"
    )


def _dictionary(
    place: str, field: _Schema, array: _Array, used: list[int]
) -> list[str | int | None]:
    """The values that a column's indices point to."""
    if array.length > _SPARSE * len(used):
        spans = [(index, 1) for index in used]
        used = list(range(len(used)))
    else:
        spans = [(0, array.length)]
    values: list[str | int | None] = []
    for begin, count in spans:
        column = _column(place, field, array, array.offset + begin, count)
        if isinstance(column, Labels):
            values += [None if i < 0 else column.dictionary[i] for i in column.indices.tolist()]
        else:
            values += column.tolist()
    return [values[index] for index in used]


def _with_missing(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    if valid.all():
        return values
    if values.dtype.kind in "iu":
        # NumPy would make float64, which rounds large integers before they are rounded to float32.
        values = values.astype(np.float32)
    return np.where(valid, values, np.nan)


def _valid(array: _Array, begin: int, count: int) -> NDArray[np.bool_]:
    if not array.null_count or not array.n_buffers or not array.buffers[0]:
        return np.ones(count, np.bool_)
    return _bits(array.buffers[0], begin, count)


def _bits(address: int, begin: int, count: int) -> NDArray[np.bool_]:
    data = _copied(address, np.dtype("u1"), begin // 8, -(-(begin % 8 + count) // 8))
    bits = np.unpackbits(data, bitorder="little")[begin % 8 :][:count]
    return bits.astype(np.bool_)


def _numbers(array: _Array, dtype: str, begin: int, count: int) -> NDArray[Any]:
    return _copied(array.buffers[1], np.dtype(dtype), begin, count)


def _copied(address: int | None, dtype: np.dtype[Any], begin: int, count: int) -> NDArray[Any]:
    """`count` items from the item `begin` of the memory at `address`."""
    if not count or address is None:
        return np.empty(0, dtype)
    memory = ctypes.string_at(address + begin * dtype.itemsize, count * dtype.itemsize)
    return np.frombuffer(memory, dtype)


def _texts(
    kind: bytes, array: _Array, begin: int, valid: NDArray[np.bool_]
) -> Iterator[str | None]:
    """The texts from `begin` on, None where one is missing."""
    if kind in _OFFSETS:
        ends = _copied(array.buffers[1], np.dtype(_OFFSETS[kind]), begin, len(valid) + 1).tolist()
        for there, (left, right) in zip(valid, pairwise(ends), strict=True):
            text = ctypes.string_at(array.buffers[2] + left, right - left) if right > left else b""
            yield text.decode() if there else None
        return
    views = _copied(array.buffers[1], _VIEW, begin, len(valid))
    for there, view in zip(valid, views, strict=True):
        size = int(view["length"])
        if size <= _INLINE:
            text = view.tobytes()[4 : 4 + size]
        else:
            # The first two buffers are the validity and the views.
            text = ctypes.string_at(
                array.buffers[2 + int(view["buffer"])] + int(view["offset"]), size
            )
        yield text.decode() if there else None
