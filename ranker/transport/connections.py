"""The callers' connections, as the kernel knows them: gRPC tells nothing of them.

Made for a thread that watches a process in distress: it calls the C library without letting go
of the interpreter, which another thread might then keep for long. Linux only: elsewhere no
connections are found.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import termios
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import unquote

from ranker.rpc import Peer

BUFFER_BYTES = 256 * 2**10
"""What the kernel keeps for a connection each way; it takes twice as much, for its own needs."""

GONE: Peer = ("", 0)
"""Stands for a caller who has broken off, and left something that gRPC may still read."""

# In `struct tcp_info` of <linux/tcp.h>: tcpi_bytes_acked and tcpi_bytes_received.
_BYTES_AT = 120
_BYTES = struct.Struct("=QQ")
_INFO_SIZE = _BYTES_AT + _BYTES.size

_IPV4 = struct.pack("=H", socket.AF_INET)
_IPV6 = struct.pack("=H", socket.AF_INET6)
_ADDRESS_SIZE = 28  # of a sockaddr_in6, the longer one

_NOWHERE = struct.pack("=H14x", socket.AF_UNSPEC)

_DESCRIPTORS = "/proc/self/fd"

_MANY_DESCRIPTORS = 512
"""To look at so many takes too long for the loop."""

_ON, _OFF = ctypes.byref(ctypes.c_int(1)), ctypes.byref(ctypes.c_int(0))

_libc = ctypes.PyDLL(None)  # unlike CDLL it keeps the interpreter meanwhile


@dataclass(frozen=True)
class Connection:
    """One connection of a caller, at one moment.

    Attributes:
        peer: the caller, or `GONE`.
        received: bytes that it has sent and gRPC has read.
        unread: bytes that it has sent and gRPC has not read.
        sent: bytes that it has received.
    """

    peer: Peer
    received: int
    unread: int
    sent: int
    _descriptor: int

    def close(self) -> None:
        """Ends it at once, with all that is on its way; gRPC finds it lost, and frees what it held.

        To connect a socket to no address dissolves its connection: see connect(2). A shutdown
        would leave gRPC to read what the kernel still has.
        """
        if _peer(self._descriptor) != self.peer:
            return  # it has ended, and the number may be another's
        if _libc.connect(self._descriptor, _NOWHERE, len(_NOWHERE)):
            _libc.shutdown(self._descriptor, socket.SHUT_RDWR)

    def cork(self) -> None:
        """Holds back what is sent from now on; see `ranker.transport.cork`.

        If it has ended, and its descriptor is another socket's by now, that one is corked until the
        turn ends.
        """
        _libc.setsockopt(self._descriptor, socket.IPPROTO_TCP, socket.TCP_CORK, _ON, 4)

    def uncork(self) -> None:
        """Sends what was held back."""
        _libc.setsockopt(self._descriptor, socket.IPPROTO_TCP, socket.TCP_CORK, _OFF, 4)


def connections(port: int) -> list[Connection]:
    """This process's connections to a port of its own."""
    found = []
    for descriptor in _sockets(port):
        info = ctypes.create_string_buffer(_INFO_SIZE)
        size = ctypes.c_uint(_INFO_SIZE)
        unread = ctypes.c_int(0)
        if (
            _libc.getsockopt(
                descriptor, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)
            )
            or size.value < _INFO_SIZE  # an old kernel
            or _libc.ioctl(descriptor, termios.FIONREAD, ctypes.byref(unread))
        ):  # the last of these fails for the socket that listens
            continue
        peer, waiting = _peer(descriptor), unread.value
        if peer != GONE or waiting:
            sent, received = _BYTES.unpack_from(info, _BYTES_AT)
            found.append(Connection(peer, received - waiting, waiting, sent, descriptor))
    return found


def connections_of(port: int, peers: Collection[Peer]) -> list[Connection]:
    """Those of certain callers; none if the process has very many descriptors."""
    try:
        many = len(os.listdir(_DESCRIPTORS)) > _MANY_DESCRIPTORS
    except OSError:
        many = True
    return [] if many else [each for each in connections(port) if each.peer in peers]


def peer_of(name: str) -> Peer | None:
    """A caller, as gRPC names it: `ipv4:10.0.0.7:4242`, `ipv6:%5B::1%5D:4242`."""
    kind, _, address = unquote(name).partition(":")
    host, _, port = address.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _plain(host.strip("[]")), int(port)


def limit_buffers(port: int) -> None:
    """Bounds what the kernel keeps for each connection to a port that this process listens on.

    By default it keeps up to several megabytes each way, which count against a container's
    memory. Connections inherit this from the socket that listens.
    """
    size = ctypes.byref(ctypes.c_int(BUFFER_BYTES))
    for descriptor in _sockets(port):
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            _libc.setsockopt(descriptor, socket.SOL_SOCKET, option, size, 4)


def _sockets(port: int) -> list[int]:
    """The descriptors of this process's TCP sockets at a local port."""
    try:
        descriptors = list(map(int, os.listdir(_DESCRIPTORS)))
    except OSError:
        return []
    return [each for each in descriptors if _port(_ask(_libc.getsockname, each)) == port]


def _peer(descriptor: int) -> Peer:
    """Who is at the other end of a socket."""
    address = _ask(_libc.getpeername, descriptor)
    port = _port(address)
    if port is None:
        return GONE
    is_ipv4 = address[:2] == _IPV4
    packed = address[4:8] if is_ipv4 else address[8:24]
    return _plain(socket.inet_ntop(socket.AF_INET if is_ipv4 else socket.AF_INET6, packed)), port


def _ask(function: Callable[..., int], descriptor: int) -> bytes:
    """What `getsockname` or `getpeername` says: a `struct sockaddr`, or nothing."""
    address = ctypes.create_string_buffer(_ADDRESS_SIZE)
    size = ctypes.c_uint(_ADDRESS_SIZE)
    return b"" if function(descriptor, address, ctypes.byref(size)) else address.raw[: size.value]


def _port(address: bytes) -> int | None:
    """The port of a `struct sockaddr`, if it has one."""
    return int.from_bytes(address[2:4], "big") if address[:2] in (_IPV4, _IPV6) else None


def _plain(host: str) -> str:
    """An address, an IPv4 one also if it is written as an IPv6 one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
