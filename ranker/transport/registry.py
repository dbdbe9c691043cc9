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
        wanted: one of `CHOICES`. `auto` takes `core` if the installed grpcio's core is one that
            we know, or proves to be like it, else `aio`. To prove it takes a second.

    Raises:
        ValueError: `wanted` is not one of `CHOICES`, or it is `core` and grpcio's core is
            another one than we know; says what is different.
    """
    if wanted not in CHOICES:
        raise ValueError(f"transport: expected one of {', '.join(CHOICES)}, got {wanted!r}")
    if wanted == "aio":
        return Selection(_load("aio"), "asked for")

    from ranker.transport import core_api
    from ranker.transport.environment import prepared

    obstacle, known = core_api.unavailable(), "grpcio's core is a known one"
    untested = core_api.untested()
    if obstacle is None and untested is not None:
        from ranker.transport import self_test

        known = f"{untested}, and its core has passed the self-test"
        failure = self_test.failure()
        if failure is not None:
            obstacle = f"{untested}, and its core has failed the self-test: {failure}"
    if obstacle is None:
        reader = "the loop" if prepared() else "gRPC's own threads"
        return Selection(_load("core"), f"{known}; sockets read by {reader}")
    if wanted == "core":
        raise ValueError(f"transport core: {obstacle}")
    return Selection(_load("aio"), f"{obstacle}; requests take several times the CPU time")


def _load(name: str) -> MakeTransport:
    module, kind = CLASSES[name]
    make: MakeTransport = getattr(import_module(module), kind)
    return make
