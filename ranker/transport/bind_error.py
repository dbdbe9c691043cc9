"""Why an address can't be listened on."""

from __future__ import annotations

import socket


def bind_error(address: str) -> OSError:
    """Says why gRPC could not listen on an address; gRPC itself doesn't.

    Args:
        address: `host:port`, an IPv6 host in brackets.

    Returns:
        The operating system's error for the same attempt, naming the address.
    """
    host, _, port = address.rpartition(":")
    try:
        for family, kind, protocol, _, target in socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
                probe.listen()
    except OSError as error:
        return OSError(error.errno, f"cannot listen on {address}: {error.strerror}")
    return OSError(f"cannot listen on {address}: gRPC refused it, the operating system did not")
