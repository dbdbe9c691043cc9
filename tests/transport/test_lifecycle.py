"""Binding, stopping and dying, on every transport."""

from __future__ import annotations

import os
import socket
import time
from types import SimpleNamespace

import grpc
import pytest

from ranker.transport.aio import AioTransport
from ranker.transport.core import CoreTransport
from tests.waiting import PATIENCE, wait_until

KINDS = [pytest.param(AioTransport, id="aio"), pytest.param(CoreTransport, id="core")]


def make(kind, **options):
    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    return kind({}, lambda: None, counts, max_message_bytes=1000, **options)


@pytest.mark.parametrize("kind", KINDS)
class TestBind:
    def test_port_zero_is_any_free_one(self, kind):
        assert make(kind).bind("127.0.0.1:0") > 0

    def test_taken_port(self, kind):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(OSError, match=f"{address}: Address already in use"):
                make(kind).bind(address)

    def test_port_is_not_shared_unless_asked_for(self, kind):
        first = make(kind)
        port = first.bind("127.0.0.1:0")
        with pytest.raises(OSError, match="already in use"):
            make(kind).bind(f"127.0.0.1:{port}")

    def test_shared_port(self, kind):
        first = make(kind, reuse_port=True)
        port = first.bind("127.0.0.1:0")
        assert make(kind, reuse_port=True).bind(f"127.0.0.1:{port}") == port

    def test_address_of_another_machine(self, kind):
        with pytest.raises(OSError, match=r"192\.0\.2\.1:50051: Cannot assign"):
            make(kind).bind("192.0.2.1:50051")


def hang(server, case: str) -> grpc.Future:
    call = server.channel.unary_unary("/toy/Hang").future(b"", metadata=[("case", case)])
    wait_until(lambda: server.events(case))
    return call


def test_a_server_that_leaves_closes_its_connections(start, case):
    """So that a call on its way may be asked again elsewhere."""
    server = start()
    pending = hang(server, case)
    server.terminate()
    assert pending.exception(PATIENCE).code() is grpc.StatusCode.UNAVAILABLE
    assert server.wait() == 0


def test_an_answer_is_on_its_way_until_it_is_sent(server, case):
    """To a caller that reads nothing: the rest of 16 MB stays with the server."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.http2.lookahead_bytes", 65536),
    ]
    with grpc.insecure_channel(server.address, options=options) as channel:
        call = channel.unary_stream("/toy/Large")(b"16", metadata=[("case", case)])
        wait_until(lambda: server.events(case))
        wait_until(lambda: server.journal()["answers_on_their_way"] >= 1)
        time.sleep(0.2)
        assert server.journal()["answers_on_their_way"] >= 1
        assert len(next(call)) == 16 * 2**20
    wait_until(lambda: server.journal()["answers_on_their_way"] == 0)


def test_handler_that_ends_the_process_ends_it(start, case):
    server = start()
    pending = hang(server, case)
    with pytest.raises(grpc.RpcError):
        server.unary("Fail", b"exit")
    assert server.wait() != 0
    assert pending.exception(PATIENCE) is not None


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="http-1"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), id="zeroes-after-preface"),
        pytest.param(os.urandom(10000), id="random"),
    ],
)
def test_garbage_on_a_connection_harms_nobody(server, garbage):
    host, port = server.address.split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(garbage)
    assert server.unary("Echo", b"x") == b"x"
