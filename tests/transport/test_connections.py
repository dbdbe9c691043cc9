"""The callers' connections, as the kernel knows them."""

from __future__ import annotations

import socket
import sys

import pytest

from ranker.transport.connections import GONE, connections, limit_buffers, peer_of
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request):
    """A connection to a port of this process, from both ends."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((request.param, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        port = listener.getsockname()[1]
        limit_buffers(port)
        with socket.create_connection((request.param, port)) as caller:
            served, _ = listener.accept()
            with served:
                yield port, caller, served


def test_what_was_sent_and_read(pair):
    port, caller, served = pair
    caller.sendall(b"x" * 1000)
    served.recv(400, socket.MSG_WAITALL)
    served.sendall(b"y" * 70)
    caller.recv(70, socket.MSG_WAITALL)
    wait_until(lambda: [each.sent for each in connections(port)] == [70])
    [found] = connections(port)
    assert found.peer == caller.getsockname()[:2]
    assert (found.received, found.unread, found.sent) == (400, 600, 70)


def test_a_connection_is_closed_for_both_ends(pair):
    port, caller, served = pair
    [found] = connections(port)
    found.close()
    caller.settimeout(PATIENCE)
    with pytest.raises(ConnectionResetError):
        caller.recv(1)
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the kernel
        served.sendall(b"x")
    assert [each for each in connections(port) if each.peer != GONE] == []


def test_buffers_are_bounded(pair):
    _, _, served = pair
    assert served.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2**20


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        pytest.param("ipv4:10.0.0.7:4242", ("10.0.0.7", 4242), id="ipv4"),
        pytest.param("ipv6:%5B::1%5D:4242", ("::1", 4242), id="ipv6"),
        pytest.param("ipv6:%5B::ffff:10.0.0.7%5D:4242", ("10.0.0.7", 4242), id="mapped"),
        pytest.param("ipv6:%5Bfe80::1%25eth0%5D:1", ("fe80::1", 1), id="with-a-zone"),
        pytest.param("unix:", None, id="unix"),
    ],
)
def test_names_of_grpc(name, peer):
    assert peer_of(name) == peer
