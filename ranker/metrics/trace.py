"""W3C trace context: reading a `traceparent` header."""

from __future__ import annotations

import re
from dataclasses import dataclass

# https://www.w3.org/TR/trace-context/#traceparent-header. Version 00 has exactly
# these four fields; a later version may append more after a dash.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.ASCII | re.DOTALL,
)


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
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "00" and more is not None:
        return None
    return Trace(trace_id, span_id, bool(int(flags, 16) & 1))
