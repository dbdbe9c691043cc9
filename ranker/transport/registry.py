"""Which transport serves, and why."""

from __future__ import annotations

from typing import NamedTuple

from ranker.rpc import MakeTransport
from ranker.transport.aio import AioTransport
from ranker.transport.core_api import unavailable
from ranker.transport.environment import prepared

CHOICES = ("auto", "core", "aio")


class Selection(NamedTuple):
    """How to make a transport, and why this one, for the log and for a metric's label."""

    make: MakeTransport
    reason: str


def select(wanted: str = "auto") -> Selection:
    """Picks the transport.

    Args:
        wanted: one of `CHOICES`. `auto` takes `core` if the installed grpcio's
            core is one that we know, else `aio`.

    Raises:
        ValueError: `wanted` is not one of `CHOICES`, or it is `core` and
            grpcio's core is not one that we know; says what is different.
    """
    if wanted not in CHOICES:
        raise ValueError(f"transport: expected one of {', '.join(CHOICES)}, got {wanted!r}")
    if wanted == "aio":
        return Selection(AioTransport, "asked for")
    obstacle = unavailable()
    if obstacle is None:
        from ranker.transport.core import CoreTransport

        reader = "the loop" if prepared() else "gRPC's own threads"
        return Selection(CoreTransport, f"grpcio's core is a known one; sockets read by {reader}")
    if wanted == "core":
        raise ValueError(f"transport core: {obstacle}")
    return Selection(AioTransport, obstacle)
