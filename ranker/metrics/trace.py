"""W3C trace context: reading a `traceparent` header."""

from __future__ import annotations

import re
from dataclasses import dataclass

# https://www.w3.org/TR/trace-context/#traceparent-header. Version 00 has exactly
# these four fields; a later version may append more after a dash.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?",
    re.ASCII | re.DOTALL,
)
_LENGTH = 55


@dataclass(frozen=True, slots=True)
class Trace:
    """Which trace a request belongs to.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits, not all zero.
        span_id: the caller's span, 16 lower-case hexadecimal digits, not all zero.
        sampled: whether the caller records the trace, so that it can be found again.
    """

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(header: str) -> Trace | None:
    """Reads a `traceparent` header; None if it is not valid, which the W3C says to ignore."""
    match = _match(header)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    return Trace(trace_id, span_id, bool(int(flags, 16) & 1))


def is_traceparent(header: str | None) -> bool:
    """Whether there is a `traceparent` header that is valid; cheaper than to read it."""
    return header is not None and _match(header) is not None


def _match(header: str) -> re.Match[str] | None:
    if len(header) > _LENGTH and header.startswith("00"):
        return None
    return _TRACEPARENT.fullmatch(header)
