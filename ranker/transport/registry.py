"""The transports by name, and the choice of one.

A transport is one class, named here with its module; `ranker.rpc.MakeTransport` says
how it is made. Nothing is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ranker.rpc import MakeTransport

CLASSES = {
    "core": ("ranker.transport.core", "CoreTransport"),
    "aio": ("ranker.transport.aio", "AioTransport"),
}

CHOICES = ("auto", *CLASSES)
"""What `--transport` may be."""


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
        return Selection(_load("aio"), "asked for")

    from ranker.transport.core_api import unavailable
    from ranker.transport.environment import prepared

    obstacle = unavailable()
    if obstacle is None:
        reader = "the loop" if prepared() else "gRPC's own threads"
        return Selection(_load("core"), f"grpcio's core is a known one; sockets read by {reader}")
    if wanted == "core":
        raise ValueError(f"transport core: {obstacle}")
    return Selection(_load("aio"), obstacle)


def _load(name: str) -> MakeTransport:
    module, kind = CLASSES[name]
    make: MakeTransport = getattr(import_module(module), kind)
    return make
