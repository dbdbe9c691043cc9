"""Binding, stopping and dying, on every transport."""

from __future__ import annotations

import os
import socket
import threading
import time

import grpc
import pytest

from ranker.transport import core
from ranker.transport.aio import AioTransport
from ranker.transport.core import CoreTransport
from tests.transport.conftest import PATIENCE, wait_until

KINDS = [pytest.param(AioTransport, id="aio"), pytest.param(CoreTransport, id="core")]


def make(kind, **options):
    return kind({}, lambda: None, max_message_bytes=1000, **options)


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

    def test_stop_before_run(self, kind):
        transport = make(kind)
        transport.bind("127.0.0.1:0")
        transport.stop(10)
        transport.run()

    def test_serves_on_any_thread_and_stops_from_another(self, kind):
        transport = make(kind)
        port = transport.bind("127.0.0.1:0")
        thread = threading.Thread(target=transport.run)
        thread.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/no/Method")(b"", timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            transport.stop(10)
            thread.join(PATIENCE)
            assert not thread.is_alive()
        transport.stop(10)  # too late, but no error
        transport.call_soon(lambda: None)


def test_core_is_woken_from_a_long_sleep(monkeypatch):
    """By a batch without operations, on whichever call came last."""
    monkeypatch.setattr(core, "_IDLE", 2.0 * PATIENCE)
    transport = make(CoreTransport)
    port = transport.bind("127.0.0.1:0")
    thread = threading.Thread(target=transport.run)
    thread.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/no/Method")(b"", timeout=PATIENCE)
    woken = threading.Event()
    time.sleep(0.1)  # it sleeps by now
    transport.call_soon(woken.set)
    assert woken.wait(PATIENCE)
    transport.stop(0)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def hang(server, case: str) -> grpc.Future:
    call = server.channel.unary_unary("/toy/Hang").future(b"", metadata=[("case", case)])
    wait_until(lambda: server.events(case))
    return call


def test_idle_server_stops_at_once(start):
    server = start("10")
    server.unary("Echo")
    started = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    assert time.monotonic() - started < 5


def test_in_flight_calls_finish_and_new_ones_are_refused(start, case):
    server = start("10")
    call = server.channel.unary_unary("/toy/EchoLater").future(b"0.7", metadata=[("case", case)])
    wait_until(lambda: server.events(case))
    server.terminate()

    def refused() -> bool:
        try:
            server.unary("Echo", timeout=0.5)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
        return False

    wait_until(refused)
    assert call.result(PATIENCE) == b"0.7"
    assert server.wait() == 0


def test_open_streams_finish(start, case):
    server = start("10")
    goon = threading.Event()

    def messages():
        yield b"one"
        goon.wait(PATIENCE)
        yield b"two"

    call = server.stream("Chat", messages(), case)
    assert next(call) == b"one"
    server.terminate()
    time.sleep(0.3)
    goon.set()
    assert list(call) == [b"two"]
    assert server.wait() == 0


def test_calls_that_outlive_the_grace_are_cancelled(start, case):
    server = start("0.3")
    calls = [hang(server, case) for _ in range(3)]
    stream = server.stream("HangStream", iter([b"x"]), case)
    wait_until(lambda: len(server.events(case)) >= 4)
    server.terminate()
    for call in (*calls, stream):
        code = call.exception(PATIENCE).code()
        assert code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert server.wait() == 0


def test_second_stop_shortens_the_grace(start, case):
    server = start("60,0")
    call = hang(server, case)
    server.terminate()
    time.sleep(0.3)
    assert server.process.poll() is None
    server.terminate()
    assert call.exception(PATIENCE) is not None
    assert server.wait() == 0


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
