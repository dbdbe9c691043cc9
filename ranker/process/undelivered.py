"""What this process has written to its connections, and the other ends have not acknowledged.

When a process ends, the kernel goes on to deliver what was written, but only until the
other end sends anything: there is nobody left to read that, so it resets the connection and
throws away the rest. gRPC's callers always send something, to say that they can take more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
import termios
from collections.abc import Iterator


def undelivered_bytes(port: int) -> int:
    """How many bytes are on their way on all connections to a local port.

    Source: `SIOCOUTQ` in tcp(7), which is `TIOCOUTQ` under another name.

    Args:
        port: what the connections were accepted on.
    """
    return sum(
        _unacknowledged(connection)
        for connection in _own_sockets()
        if connection.getsockname()[1:2] == (port,) and _is_connected(connection)
    )


def _own_sockets() -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # it has been closed meanwhile
            copy = os.dup(int(name))
            if stat.S_ISSOCK(os.fstat(copy).st_mode):
                with socket.socket(fileno=copy) as own:
                    yield own
            else:
                os.close(copy)


def _is_connected(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def _unacknowledged(connection: socket.socket) -> int:
    answer = fcntl.ioctl(connection, termios.TIOCOUTQ, struct.pack("i", 0))
    [count] = struct.unpack("i", answer)
    return int(count)
