"""The only file that touches grpcio's core, `grpc._cython.cygrpc`.

`grpc.server` is built on these names, but they are not public API: they may
change with any release. `unavailable` says why they can't be used, if a name is
missing. What they do is known of the releases that our tests have run on; of
another one `ranker.transport.self_test` finds it out.

How the core is used, in short. A `Server` is bound to a `CompletionQueue`.
`Server.request_call` asks for one incoming RPC, `Call.start_server_batch`
starts a batch of operations on it, each kind at most once at a time. Each of
these carries a tag, and `CompletionQueue.poll` returns an event with that tag
when the thing is done. Everything may be called from any thread.
"""

from __future__ import annotations

from typing import Any

import grpc

from ranker.certificate import names_in

try:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]
except ImportError:  # a grpcio that is built in another way
    cygrpc = None

TESTED = ((1, 85), (1, 85))
"""The first and the last minor release of grpcio that the tests have run on."""

_NAMES = {
    "Server": (
        "add_http2_port",
        "cancel_all_calls",
        "destroy",
        "register_completion_queue",
        "request_call",
        "shutdown",
        "start",
    ),
    "CompletionQueue": ("poll",),
    "Call": ("cancel", "peer", "start_server_batch"),
    "CallDetails": ("deadline", "method"),
    "RequestCallEvent": ("call", "call_details", "invocation_metadata", "success", "tag"),
    "BatchOperationEvent": ("batch_operations", "success", "tag"),
    "SendInitialMetadataOperation": (),
    "SendMessageOperation": (),
    "SendStatusFromServerOperation": (),
    "ReceiveMessageOperation": ("message",),
    "ReceiveCloseOnServerOperation": ("cancelled",),
    "WriteFlag": ("buffer_hint",),
    "auth_context": (),
}


def untested() -> str | None:
    """That our tests have not run on the installed release; None if they have."""
    release = tuple(int(part) for part in grpc.__version__.split(".")[:2])
    if TESTED[0] <= release <= TESTED[1]:
        return None
    first, last = (".".join(map(str, bound)) for bound in TESTED)
    return f"grpcio {grpc.__version__} is outside of the tested releases {first} to {last}"


def unavailable() -> str | None:
    """Why the core can't be driven by us, or None if it has all that it takes."""
    if cygrpc is None:
        return f"grpcio {grpc.__version__} has no grpc._cython.cygrpc"
    for name, attributes in _NAMES.items():
        for path in (name, *(f"{name}.{attribute}" for attribute in attributes)):
            if not _has(path):
                return f"grpcio {grpc.__version__} has no cygrpc.{path}"
    return None


def core_credentials(credentials: grpc.ServerCredentials | None) -> Any:
    """A server's credentials as the core takes them."""
    return None if credentials is None else credentials._credentials  # type: ignore[attr-defined]


def certified_names_of(call: Any) -> tuple[str, ...]:
    """The names in the certificate of a call's caller; none without one.

    gRPC has checked the certificate as the connection was made, and tells of it for each call.
    """
    known = cygrpc.auth_context(call)
    shown = known.get(b"x509_pem_cert")
    return names_in(shown[0]) if shown else ()


def _has(path: str) -> bool:
    found: Any = cygrpc
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


if unavailable() is None:
    CompletionQueue = cygrpc.CompletionQueue
    ReceiveClose = cygrpc.ReceiveCloseOnServerOperation
    ReceiveMessage = cygrpc.ReceiveMessageOperation
    SendInitialMetadata = cygrpc.SendInitialMetadataOperation
    SendMessage = cygrpc.SendMessageOperation
    SendStatus = cygrpc.SendStatusFromServerOperation
    Server = cygrpc.Server
    BUFFER_HINT: int = cygrpc.WriteFlag.buffer_hint
