"""Addresses to listen on."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket


def bare_host(host: str) -> str:
    """A host without the brackets that an IPv6 address may stand in."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def host_and_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets, as gRPC and people write it."""
    host = bare_host(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def private_addresses(number: int) -> tuple[str, ...]:
    """Addresses that only this machine can reach, and only who knows them, in gRPC's notation.

    They are names of Linux' own, without a file behind them: see unix(7).
    """
    secret = secrets.token_hex(16)
    return tuple(f"unix-abstract:ranker-{secret}-{index}" for index in range(number))


class PortTakenError(OSError):
    """Somebody else listens on the port."""


def bind_http(what: str, host: str, port: int) -> list[socket.socket]:
    """Sockets to listen on with asyncio: one for each of the host's addresses.

    Args:
        what: what is to be served there, for an error.
        host: a name or an address.
        port: 0 for any free one, the same at all addresses.

    Raises:
        PortTakenError: somebody else has the port.
        OSError: the address can't be had otherwise. Both say which and why.
    """
    with contextlib.ExitStack() as held:
        bound: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(
                bare_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, protocol, _, address in found:
                place = held.enter_context(socket.socket(family, kind, protocol))
                if family == socket.AF_INET6:
                    # As gRPC does: the wildcard address is IPv4's too.
                    place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                place.bind((address[0], port, *address[2:]))
                port = place.getsockname()[1]
                bound.append(place)
            # Two may have bound with SO_REUSEADDR; the second to listen is refused.
            for place in bound:
                place.listen()
        except OSError as error:
            where = host_and_port(host, port)
            if error.errno == errno.EADDRINUSE:
                reason = f"can't serve {what} on {where}: the port is taken; choose another {what} "
                raise PortTakenError(error.errno, reason + "port, or 0 for any") from error
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"can't serve {what} on {where}: {reason}") from error
        held.pop_all()
        return bound


class Reservation:
    """Holds a port for the workers, which share it, without listening on it.

    No other server can have the port meanwhile, be it one of ours.

    Args:
        host: a name or an address.
        port: 0 for any free one.

    Attributes:
        port: the port.

    Raises:
        OSError: somebody else has the port, or the host is not this machine's; says which.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        with contextlib.ExitStack() as held:
            try:
                found = socket.getaddrinfo(
                    bare_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
                for family, kind, protocol, _, address in found:
                    place = held.enter_context(socket.socket(family, kind, protocol))
                    _bind_alone(place, (address[0], self.port, *address[2:]))
                    self.port = place.getsockname()[1]
            except OSError as error:
                where = host_and_port(host, port)
                reason = error.strerror or str(error)
                raise OSError(error.errno, f"can't listen on {where}: {reason}") from error
            self._held = held.pop_all()

    def close(self) -> None:
        """Lets go of the port."""
        self._held.close()


def _bind_alone(place: socket.socket, address: tuple[object, ...]) -> None:
    """Binds to an address that nobody else has, and that the workers may then share.

    The kernel looks at both options when somebody binds. A port in TIME_WAIT can be
    had only with SO_REUSEADDR, which must be gone before another server tries; with
    SO_REUSEPORT from the beginning, two servers would share the port and not know it.
    """
    if place.family == socket.AF_INET6:
        # As gRPC does: the wildcard address is IPv4's too.
        place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(address)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
