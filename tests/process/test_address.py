"""Addresses to listen on: every spelling can be had, and what can't be had is said in one line."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ranker.process.address import PortTakenError, Reservation, bare_host, bind_http, host_and_port


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


SIX = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")

SPELLINGS = pytest.mark.parametrize(
    ("host", "reached"),
    [
        pytest.param("0.0.0.0", "127.0.0.1"),
        pytest.param("localhost", "127.0.0.1"),
        pytest.param("::", "::1", marks=SIX),
        pytest.param("[::]", "::1", marks=SIX),
        pytest.param("::", "127.0.0.1", marks=SIX, id="both-kinds-at-once"),
        pytest.param("::1", "::1", marks=SIX),
        pytest.param("[::1]", "::1", marks=SIX),
        pytest.param("0:0:0:0:0:0:0:1", "::1", marks=SIX),
    ],
)


@SPELLINGS
def test_grpc_listens_on_a_port_that_is_reserved(host, reached):
    reservation = Reservation(host, 0)
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 1)])
    address = host_and_port(bare_host(host), reservation.port)
    assert server.add_insecure_port(address) == reservation.port
    server.start()
    with grpc.insecure_channel(host_and_port(reached, reservation.port)) as channel:
        grpc.channel_ready_future(channel).result(20)
    server.stop(0).wait()
    reservation.close()


@SPELLINGS
def test_http_listens(host, reached):
    bound = bind_http("metrics", host, 0)
    port = bound[0].getsockname()[1]
    with socket.create_connection((reached, port), timeout=20):
        pass
    with pytest.raises(PortTakenError, match=rf"can't serve metrics on .*:{port}: .* taken"):
        bind_http("metrics", host, port)
    for each in bound:
        each.close()


@pytest.mark.parametrize("host", ["", "no-such-host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_here_can_not_be_had(host):
    with pytest.raises(OSError, match=r"^\[Errno .*can't listen on .*:50051: \w+"):
        Reservation(host, 50051)


def test_a_port_of_another_program_can_not_be_had():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"can't listen on 127\.0\.0\.1:{port}: Address already"):
            Reservation("127.0.0.1", port)
