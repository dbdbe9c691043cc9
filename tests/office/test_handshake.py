"""What any client may do before its connection to the HTTP server is secured."""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ranker.office import handshake
from ranker.office.app import application
from ranker.tls import Certificates
from tests.certificates import Authority
from tests.office.support import served
from tests.waiting import PATIENCE, wait_until


async def scheme(request: Request) -> Response:
    return PlainTextResponse(request.url.scheme)


@dataclass
class Secured:
    """A server, and how its clients know it."""

    port: int
    context: ssl.SSLContext

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def secure(self, connection: socket.socket) -> ssl.SSLSocket:
        return self.context.wrap_socket(connection, server_hostname="localhost")

    def ask(self) -> bytes:
        client = http.client.HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE, context=self.context
        )
        try:
            client.request("GET", "/scheme")
            return client.getresponse().read()
        finally:
            client.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority, tmp_path, caplog: pytest.LogCaptureFixture) -> Iterator[Secured]:
    """A server; nothing that the test does to it may make it log anything."""
    cert, key = authority.issue(tmp_path, "server")
    certificates = Certificates(str(cert), str(key))
    client = ssl.create_default_context(cafile=authority.path)
    with (
        caplog.at_level(logging.WARNING),
        served(application([Route("/scheme", scheme)]), certificates.context) as port,
    ):
        yield Secured(port, client)
    assert caplog.records == []


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_request_that_comes_with_the_handshakes_end_is_answered(server):
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = server.context.wrap_bio(received, sent, server_hostname="localhost")
    with server.connect() as connection:
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(sent.read())
                received.write(connection.recv(65536))
        secured.write(b"GET /scheme HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.sendall(sent.read())  # what ends the handshake, and the request
        answer = b""
        while not answer.endswith(b"https"):
            received.write(connection.recv(65536))
            with suppress(ssl.SSLWantReadError):
                while piece := secured.read():
                    answer += piece
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_connection_takes_many_requests(server):
    client = http.client.HTTPSConnection(
        "localhost", server.port, timeout=PATIENCE, context=server.context
    )
    for _ in range(3):
        client.request("GET", "/scheme")
        assert client.getresponse().read() == b"https"
    client.close()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(b"\x16\x03\x01\xff\xff" + b"x" * 70000, id="no-hello"),
    ],
)
def test_what_is_no_tls_is_closed(server, said):
    with server.connect() as connection:
        connection.sendall(said)
        wait_until(lambda: is_closed(connection))
    assert server.ask() == b"https"


def test_a_client_that_leaves_in_the_middle_leaves_nothing(server):
    for _ in range(20):
        server.connect().close()
    assert server.ask() == b"https"


def test_a_handshake_has_a_time_limit(server, monkeypatch):
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.3)
    with server.connect() as connection:
        assert is_closed(connection)


def test_too_many_handshakes_make_room_for_new_ones(server, monkeypatch):
    monkeypatch.setattr(handshake, "MOST_HANDSHAKES", 8)
    with ExitStack() as stack:
        first, *others = [stack.enter_context(server.connect()) for _ in range(9)]
        assert is_closed(first)
        assert server.ask() == b"https"  # in the place of the second
        assert is_closed(others[0])
        for connection in others[1:]:
            assert server.secure(connection).version() is not None
