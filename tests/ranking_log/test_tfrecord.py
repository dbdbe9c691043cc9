from __future__ import annotations

import struct

import pytest
from google_crc32c import value
from hypothesis import given
from hypothesis import strategies as st

from ranker.ranking_log.tfrecord import (
    CorruptRecordError,
    TornRecordError,
    framed,
    masked,
    records,
)

RFC_3720 = {
    "zeros": (bytes(32), 0x8A9136AA),
    "ones": (b"\xff" * 32, 0x62A8AB43),
    "ascending": (bytes(range(32)), 0x46DD794E),
    "descending": (bytes(reversed(range(32))), 0x113FDB5C),
}
"""Appendix B.4, as numbers."""


def bitwise_crc32c(data: bytes) -> int:
    """By its definition: the polynomial 0x1EDC6F41, both ways mirrored."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    return checksum ^ 0xFFFFFFFF


def by_the_book(record: bytes) -> bytes:
    """A record in TFRecord's framing, written down from its documentation."""

    def checksum(data: bytes) -> bytes:
        crc = bitwise_crc32c(data)
        turned = (crc >> 15 | crc << 17) & 0xFFFFFFFF
        return struct.pack("<I", (turned + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(record))
    return length + checksum(length) + record + checksum(record)


@pytest.mark.parametrize("data", RFC_3720.values(), ids=RFC_3720)
def test_checksums_are_those_of_the_rfc(data):
    content, checksum = data
    assert value(content) == checksum == bitwise_crc32c(content)


def test_a_mask_moves_no_two_checksums_onto_one():
    assert masked(0) == 0xA282EAD8
    assert masked(0x00008000) == 0xA282EAD9
    assert masked(0xFFFFFFFF) == 0xA282EAD7


@given(pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_framing_is_that_of_the_documentation(pieces):
    assert b"".join(framed(pieces)) == by_the_book(b"".join(pieces))


@given(found=st.lists(st.binary(max_size=60), max_size=5))
def test_what_was_written_is_read(found):
    content = b"".join(b"".join(framed([record])) for record in found)
    assert list(records(content)) == found


def test_a_file_that_ends_anywhere_gives_the_records_before_and_says_where():
    first, second = by_the_book(b"first"), by_the_book(b"second")
    for end in range(1, len(second)):
        read = records(first + second[:end])
        assert next(read) == b"first"
        with pytest.raises(TornRecordError, match=f"at byte {len(first)}"):
            next(read)


ZEROS = {"to-the-end-of-the-record": 0, "and-a-block-more": 4096}


@pytest.mark.parametrize("more", ZEROS.values(), ids=ZEROS)
def test_blocks_that_were_never_written_are_a_torn_end_wherever_they_begin(more):
    first, second = by_the_book(b"first"), by_the_book(b"second, of which each byte counts")
    for written in range(len(second)):
        read = records(first + second[:written] + bytes(len(second) - written + more))
        assert next(read) == b"first"
        with pytest.raises(TornRecordError, match=f"at byte {len(first)}"):
            next(read)


def test_zeros_that_something_follows_are_no_torn_end():
    """A block was lost in the middle of the file, and what came after it is there."""
    second, third = by_the_book(b"second"), by_the_book(b"third")
    for begin in range(len(second)):
        for end in range(begin + 1, len(second) + 1):
            content = second[:begin] + bytes(end - begin) + second[end:] + third
            if content[: len(second)] != second:  # some bytes were zero before
                with pytest.raises(CorruptRecordError, match="at byte 0"):
                    list(records(content))


def test_a_last_record_with_a_changed_byte_is_corrupt_though_zeros_follow():
    content = bytearray(by_the_book(b"second") + bytes(4096))
    content[14] ^= 1
    with pytest.raises(CorruptRecordError, match="at byte 0"):
        list(records(bytes(content)))


@given(at=st.integers(0, 8 + 4 + 6 + 4 - 1), change=st.integers(1, 255))
def test_a_changed_byte_is_never_read_as_a_record(at, change):
    content = bytearray(by_the_book(b"second") + by_the_book(b"third"))
    content[at] ^= change
    with pytest.raises(CorruptRecordError, match="at byte 0"):
        list(records(bytes(content)))
