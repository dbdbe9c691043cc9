"""A list that was ranked and is to be logged, and its record."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from struct import Struct
from typing import NamedTuple

from ranker.categories import Categories
from ranker.metrics.trace import parse_traceparent
from ranker.v1 import log_pb2 as pb

OVERHEAD = 512
"""Bytes that an entry takes beside its request and its answer."""

_TIME = Struct("<BQ")
_TIME_TAG = pb.RankingRecord.TIME_UNIX_NANOS_FIELD_NUMBER << 3 | 1
_REQUEST_TAG = bytes([pb.RankingRecord.REQUEST_FIELD_NUMBER << 3 | 2])
_RESPONSE_TAG = bytes([pb.RankingRecord.RESPONSE_FIELD_NUMBER << 3 | 2])

_LENGTHS = 4096
"""Of so many lengths the encoding is kept."""


@dataclass(frozen=True, eq=False)
class Origin:
    """What many lists have in common.

    Attributes:
        model: the name of the model that ranked them.
        version: its version.
        digest: the SHA-256 of its file.
        engine: what scored them.
        feature_names: the model's, in its order.
        arm: the label that the version was chosen by.
        sample_rate: the share of all lists that is logged.
        by_unit: whether they were drawn by their units.
        categories: what the codes of the model's categorical features stand for, by name.
    """

    model: str
    version: str
    digest: str
    engine: str
    feature_names: tuple[str, ...]
    arm: str
    sample_rate: float
    by_unit: bool
    categories: Mapping[str, Categories] = field(default_factory=dict)

    @cached_property
    def facts(self) -> bytes:
        """All but what is said of the features, as fields of an encoded RankingRecord."""
        encoded: bytes = pb.RankingRecord(
            model=self.model,
            model_version=self.version,
            model_sha256=self.digest,
            engine=self.engine,
            arm=self.arm,
            sample_rate=self.sample_rate,
            sampled_by_unit=self.by_unit,
        ).SerializeToString()
        return encoded


class Entry(NamedTuple):
    """One list.

    Attributes:
        time: when it was answered, in nanoseconds since 1970.
        origin: likewise.
        traceparent: the caller's W3C trace context, unparsed.
        request: the encoded RankRequest.
        response: the encoded RankResponse.
        size: the bytes that it takes while it waits.
    """

    time: int
    origin: Origin
    traceparent: str | None
    request: bytes
    response: bytes
    size: int


def encoded(entry: Entry, *, first: bool, excluded: Collection[str] = ()) -> list[bytes]:
    """An entry as an encoded RankingRecord, in three pieces, so that a request is not copied.

    An encoded message is its fields one after the other; see
    https://protobuf.dev/programming-guides/encoding/.

    Args:
        entry: the list.
        first: whether it is the first of its model in a file.
        excluded: the features that its request had and has no longer.
    """
    origin = entry.origin
    facts = origin.facts + _TIME.pack(_TIME_TAG, entry.time)
    trace = None if entry.traceparent is None else parse_traceparent(entry.traceparent)
    if first or excluded or trace is not None:
        facts += pb.RankingRecord(
            trace_id="" if trace is None else trace.trace_id,
            excluded_features=excluded,
            model_feature_names=origin.feature_names if first else (),
            model_categories_sha256={
                name: categories.digest
                for name, categories in (origin.categories.items() if first else ())
            },
        ).SerializeToString()
    return [
        facts + _REQUEST_TAG + _varint(len(entry.request)),
        entry.request,
        _RESPONSE_TAG + _varint(len(entry.response)) + entry.response,
    ]


@lru_cache(maxsize=_LENGTHS)
def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
