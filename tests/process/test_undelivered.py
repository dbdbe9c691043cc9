"""Bytes that have left a process, and have not arrived."""

from __future__ import annotations

import os
import socket

from ranker.process.undelivered import undelivered_bytes
from tests.waiting import wait_until


def test_only_connections_to_that_port_count():
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as far:
            near, _ = door.accept()
            with near:
                assert undelivered_bytes(port) == 0
                near.setblocking(False)
                sent = 0
                try:
                    while True:
                        sent += near.send(b"x" * 65536)
                except BlockingIOError:
                    pass
                waiting = undelivered_bytes(port)
                assert 0 < waiting <= sent
                assert undelivered_bytes(far.getsockname()[1]) == 0
                while sent:
                    sent -= len(far.recv(65536))
                # An acknowledgement may come late.
                wait_until(lambda port=port: not undelivered_bytes(port))


def test_it_closes_nothing_and_leaves_nothing_open():
    before = sorted(os.listdir("/proc/self/fd"))
    with socket.socketpair()[0]:
        undelivered_bytes(1)
    assert sorted(os.listdir("/proc/self/fd")) == before
