"""TFRecord's framing: records one after the other, each with its length and checksums.

    uint64 length, uint32 masked CRC-32C of the length, the record, uint32 masked CRC-32C of it

all little-endian. Source: https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords
format details"; CRC-32C is that of RFC 3720, appendix B.4.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from functools import lru_cache
from struct import Struct

from google_crc32c import extend, value

from ranker.errors import RankerError

HEAD_BYTES = 12
"""What stands before a record."""

FOOT_BYTES = 4
"""What stands after it."""

_LENGTH = Struct("<Q")
_CHECKSUM = Struct("<I")
_MASK = 0xA282EAD8
_32_BITS = 0xFFFFFFFF

_LENGTHS = 4096
"""Of so many lengths of records the head is kept."""


class TornRecordError(RankerError):
    """A file ends within a record, as that of a process that was killed may.

    Attributes:
        begin: where the record begins.
    """

    def __init__(self, begin: int) -> None:
        super().__init__(f"it ends within a record that begins at byte {begin}")
        self.begin = begin


class CorruptRecordError(RankerError):
    """A record is not what was written."""

    def __init__(self, begin: int) -> None:
        super().__init__(f"the record at byte {begin} is corrupt: its checksum is another")


def masked(checksum: int) -> int:
    """A checksum as it is stored."""
    return (((checksum >> 15) | (checksum << 17)) + _MASK) & _32_BITS


def framed(pieces: Sequence[bytes]) -> list[bytes]:
    """A record with what stands before and after it, to be written one after the other.

    Args:
        pieces: the record, at least one; the first and the last are copied.
    """
    checksum = length = 0
    for piece in pieces:
        checksum = extend(checksum, piece)
        length += len(piece)
    *rest, last = pieces
    rest.append(last + _CHECKSUM.pack(masked(checksum)))
    rest[0] = _head(length) + rest[0]
    return rest


@lru_cache(maxsize=_LENGTHS)
def _head(length: int) -> bytes:
    """What stands before a record of so many bytes."""
    packed = _LENGTH.pack(length)
    return packed + _CHECKSUM.pack(masked(value(packed)))


def records(content: bytes | mmap.mmap) -> Iterator[bytes]:
    """The records of a file.

    Args:
        content: the file's.

    Raises:
        TornRecordError: the last record is not whole; after those before it.
        CorruptRecordError: a record is not what was written; after those before it.
    """
    at, end = 0, len(content)
    while at < end:
        body = at + HEAD_BYTES
        if body > end:
            raise TornRecordError(at)
        head = content[at:body]
        length, stored = head[: _LENGTH.size], head[_LENGTH.size :]
        _check(content, at, stored, masked(value(length)), body)
        foot = body + _LENGTH.unpack(length)[0]
        after = foot + FOOT_BYTES
        if after > end:
            raise TornRecordError(at)
        record = content[body:foot]
        _check(content, at, content[foot:after], masked(value(record)), after)
        yield record
        at = after


def _check(
    content: bytes | mmap.mmap, begin: int, stored: bytes, checksum: int, after: int
) -> None:
    """Compares a checksum as it is stored with what it should be.

    When a machine stops, the last blocks of a file may not have been written yet, and read as
    zeros. They begin anywhere within a record: then its checksum is zero, or zero from some byte
    on, and everything after it is zero. Zeros that something else follows are no such end.

    Args:
        content: the file's.
        begin: where the record begins.
        stored: the bytes of the checksum.
        checksum: what it should be.
        after: where the bytes begin that follow it.

    Raises:
        TornRecordError: it is another, as the last blocks were not written.
        CorruptRecordError: it is another.
    """
    expected = _CHECKSUM.pack(checksum)
    if stored == expected:
        return
    written = stored.rstrip(b"\0")
    if expected.startswith(written) and not content[after:].lstrip(b"\0"):
        raise TornRecordError(begin)
    raise CorruptRecordError(begin)
