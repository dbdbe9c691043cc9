"""What gRPC reads from the environment once, when it is first imported."""

from __future__ import annotations

import os
import sys

_VARIABLE = "GRPC_EXPERIMENTS"
_READ_ON_THE_POLLING_THREAD = "-event_engine_listener"


def prepare() -> None:
    """Has gRPC read a server's sockets on the thread that polls for completions.

    By default gRPC reads them on threads of its own, which then wake the one
    that polls; `docs/design/transport.md` says what that costs. gRPC calls the
    default the `event_engine_listener` experiment. A choice that the
    environment has made already stays.

    Raises:
        RuntimeError: gRPC has been imported, so it is too late.
    """
    if "grpc" in sys.modules:
        raise RuntimeError("gRPC has been imported already; it would not read the environment")
    os.environ.setdefault(_VARIABLE, _READ_ON_THE_POLLING_THREAD)


def prepared() -> bool:
    """Whether `prepare`, or a user, has made that choice."""
    return _READ_ON_THE_POLLING_THREAD in os.environ.get(_VARIABLE, "").split(",")
