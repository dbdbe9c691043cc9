"""What any client may do to the HTTP server, and what others then still get."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import select
import selectors
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ranker.office import http_server, limited_connection
from ranker.office.api import unless_gone
from ranker.office.app import application
from tests.office.support import ask, served
from tests.waiting import PATIENCE, wait_until

LARGE = b"x" * 2**24  # more than the kernel takes for one connection


async def small(request: Request) -> Response:  # noqa: ARG001
    return PlainTextResponse("here")


async def large(request: Request) -> Response:  # noqa: ARG001
    return Response(LARGE)


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def broken(request: Request) -> Response:  # noqa: ARG001
    raise ZeroDivisionError("secret")


async def slow(request: Request) -> Response:  # noqa: ARG001
    await asyncio.sleep(0.5)
    return PlainTextResponse("late")


async def slow_echo(request: Request) -> Response:
    body = await request.body()
    await unless_gone(request, asyncio.sleep(0.5))
    return Response(body)


ROUTES = [
    Route("/small", small),
    Route("/large", large),
    Route("/echo", echo, methods=["POST"]),
    Route("/broken", broken),
    Route("/slow", slow),
    Route("/slow-echo", slow_echo, methods=["POST"]),
]


@pytest.fixture
def port(caplog: pytest.LogCaptureFixture) -> Iterator[int]:
    """A server; nothing that the test does to it may make it log a traceback."""
    with served(application(ROUTES)) as port:
        yield port
    assert [r.message for r in caplog.records if r.exc_info and "incident" not in vars(r)] == []
    assert [r.message for r in caplog.records if r.name == "asyncio"] == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_connection, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(limited_connection, "TOTAL_SECONDS", 1.0)


def connected(port: int) -> socket.socket:
    """A connection that waits long, but less than `IDLE_SECONDS`, for what the server does."""
    return socket.create_connection(("127.0.0.1", port), timeout=40)


def everything(client: socket.socket) -> bytes:
    """What comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            found += piece
    return found


def is_cut_off(client: socket.socket) -> bool:
    """Whether the server has reset the connection; reads nothing."""
    poll = select.poll()
    poll.register(client, 0)  # errors are told anyway
    return bool(poll.poll(0))


def is_served(port: int) -> None:
    """Whoever has to wait until others are cut off waits for `HEAD_SECONDS` at least."""
    assert ask(port, "/small", timeout=0.8 * limited_connection.HEAD_SECONDS).body == b"here"


TLS_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(range(200))

NONSENSE = {
    "garbage": bytes(range(256)),
    "tls hello": TLS_HELLO,
    "http2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "spaces": b" " * 1000,
    "empty lines": b"\r\n" * 1000,
    "http 0.9": b"GET /small\r\n\r\n",
    "no host": b"GET /small HTTP/1.1\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\nab",
    "length of words": b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    "long head": b"GET /small HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
    "many headers": b"GET /small HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    "bad chunk": b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "bad chunk after an answer": b"POST /small HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nZZ\r\n",
    "websocket": b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "h2c": b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
    "latin letters": b"GET /sm\xe4ll HTTP/1.1\r\nHost: x\r\n\r\n",
    "broken escapes": b"GET /%ff%fe%zz HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "pipelined garbage": b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(range(256)),
    "many pipelined": b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n" * 500,
    "expectation": b"POST /small HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    b"Content-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("reads", [True, False], ids=["reads", "leaves"])
def test_nonsense_leaves_no_trace(port: int, said: bytes, reads: bool):
    for _ in range(3):
        with connected(port) as client, contextlib.suppress(ConnectionError):
            client.sendall(said)
            if reads:
                client.shutdown(socket.SHUT_WR)
                everything(client)
    is_served(port)


def test_mutated_requests_leave_no_trace(port: int):
    random.seed(5)
    whole = (
        b"".join(NONSENSE.values())
        + b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    )
    for _ in range(300):
        begin = random.randrange(len(whole))
        said = bytearray(whole[begin : begin + random.randrange(1, 3000)])
        for _ in range(random.randrange(4)):
            said[random.randrange(len(said))] = random.randrange(256)
        with connected(port) as client, contextlib.suppress(ConnectionError):
            client.sendall(said)
    is_served(port)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GE", id="half a word"),
        pytest.param(b"GET /small HTTP/1.1\r\nHost:", id="half a head"),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab", id="half a body"
        ),
        pytest.param(
            b"GET /small HTTP/1.1\r\nHost: x\r\n\r\nGET /sm", id="an answer, and half a head"
        ),
        pytest.param(
            b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nab",
            id="an answer to half a body",
        ),
    ],
)
def test_who_does_not_go_on_is_cut_off(port: int, said: bytes):
    with connected(port) as client:
        client.sendall(said)
        everything(client)


@pytest.mark.usefixtures("impatient")
def test_who_sends_byte_by_byte_is_cut_off(port: int):
    head, sent = b"GET /small HTTP/1.1\r\n" + b"X: y\r\n" * 60, 0  # takes 8 s or more
    with connected(port) as client, contextlib.suppress(ConnectionError):
        for byte in head:
            client.sendall(bytes([byte]))
            sent += 1
            time.sleep(0.02)
    assert sent < len(head)


@pytest.mark.usefixtures("impatient")
def test_who_does_not_read_is_cut_off(port: int):
    begun = time.monotonic()
    with connected(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: is_cut_off(client))
        assert time.monotonic() - begun >= limited_connection.TOTAL_SECONDS


def test_a_patient_connection_stays(port: int, request: pytest.FixtureRequest):
    with connected(port) as client:
        for _ in range(4):
            client.sendall(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
            found = b""
            while not found.endswith(b"here"):
                piece = client.recv(1000)
                assert piece, "closed"
                found += piece
            request.getfixturevalue("impatient")  # once the first one has come
            time.sleep(0.6)  # longer than a head may take, and all of it longer than one request


def test_an_answer_that_leaves_before_its_body_came_does_not_keep_the_connection(monkeypatch):
    monkeypatch.setattr(http_server, "IDLE_SECONDS", 0.5)
    with served(application(ROUTES)) as port, connected(port) as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        found = client.recv(1)
        client.sendall(b"abcde")
        assert (found + everything(client)).startswith(b"HTTP/1.1 404 ")


def test_five_hundred_silent_clients_hold_nobody_up(port: int):
    with contextlib.ExitStack() as held:
        for index in range(500):
            client = held.enter_context(connected(port))
            client.sendall((b"", b"GET /small HTTP/1.1\r\nX: ")[index % 2])
            if index % 100 == 0:
                is_served(port)
        for _ in range(5):
            is_served(port)


def test_bodies_that_never_end_hold_nobody_up(port: int):
    with contextlib.ExitStack() as held:
        for _ in range(limited_connection.MOST_CONNECTIONS + 50):
            client = held.enter_context(connected(port))
            client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
        is_served(port)


@pytest.mark.parametrize("ends", [False, True], ids=["open", "half-closed"])
def test_answers_that_nobody_reads_do_not_pile_up(port: int, ends: bool):
    """12 of 16 MiB would be 192."""
    with contextlib.ExitStack() as held:
        clients = []
        for _ in range(12):
            client = held.enter_context(connected(port))
            client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            clients.append(client)
            if ends:
                client.recv(1)  # before its answer it would be taken for one that has gone
                client.shutdown(socket.SHUT_WR)
        allowed = limited_connection.MOST_UNSENT_BYTES // len(LARGE)
        wait_until(lambda: sum(map(is_cut_off, clients)) >= len(clients) - allowed)
        is_served(port)


def test_a_bug_is_an_incident(port: int, caplog: pytest.LogCaptureFixture):
    answer = ask(port, "/broken")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.incident in answer.json["detail"]
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        pytest.param("/nowhere", "GET", 404, id="other path"),
        pytest.param("/small", "DELETE", 405, id="other method"),
    ],
)
def test_what_is_not_there_is_a_problem(port: int, path: str, method: str, status: int):
    answer = ask(port, path, method=method)
    assert answer.status == answer.json["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", id="close"),
        pytest.param(b"GET /slow HTTP/1.0\r\n\r\n", id="http-1.0"),
        pytest.param(
            b"POST /slow-echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: 4\r\n\r\nlate",
            id="body",
        ),
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"\r\n", id="empty-line"),
        pytest.param(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n", id="request"),
        pytest.param(b"\0" * 2**20, id="nonsense"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["together", "later"])
def test_what_follows_the_last_request_is_dropped(
    port: int, head: bytes, more: bytes, at_once: bool
):
    with connected(port) as client:
        client.sendall(head + more if at_once else head)
        if not at_once:
            time.sleep(0.1)
            client.sendall(more)
        found = everything(client)
    assert found.startswith(b"HTTP/1.1 200")
    assert found.endswith(b"late")


async def answer_small(request: Request) -> Response:
    await request.body()
    await unless_gone(request, asyncio.sleep(0.001))
    return PlainTextResponse("here")


def test_requests_that_are_sent_ahead_wait_in_the_network():
    """Whoever sends them before he has answers has the server hold some kilobytes, not all."""
    ahead = b"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" * 1000
    sent = 0
    over = threading.Event()
    with (
        served(application([Route("/small", answer_small, methods=["POST"])])) as port,
        socket.create_connection(("127.0.0.1", port), PATIENCE) as client,
        selectors.DefaultSelector() as writable,
    ):

        def read() -> None:
            with contextlib.suppress(OSError):
                while not over.is_set() and client.recv(2**16):
                    pass

        reader = threading.Thread(target=read)
        reader.start()
        writable.register(client, selectors.EVENT_WRITE)
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            if writable.select(0.1):
                sent += client.send(ahead)
            held = [
                each
                for each in gc.get_objects()
                if isinstance(each, limited_connection.LimitedConnection)
            ]
            for each in held:
                assert len(each.conn.trailing_data[0]) + len(each._unread) < 2**20
        over.set()
        client.shutdown(socket.SHUT_RDWR)
        reader.join(PATIENCE)
    assert sent > 2**20


def test_a_body_in_many_chunks_does_not_hold_the_loop_up():
    """Measured in the processor's time of the loop's thread between two of its turns."""
    turns: list[float] = []
    over = asyncio.Event()

    async def body(request: Request) -> Response:
        found = await request.body()
        over.set()
        return PlainTextResponse(str(len(found)))

    async def watch(request: Request) -> Response:  # noqa: ARG001
        while not over.is_set():
            began = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - began)
        return PlainTextResponse("over")

    routes = [Route("/body", body, methods=["POST"]), Route("/watch", watch)]
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with served(application(routes)) as port:
        watching = threading.Thread(target=lambda: ask(port, "/watch"))
        watching.start()
        wait_until(lambda: turns)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(head + b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n")
            answer = b""
            while not answer.endswith(b"60000"):  # head and body may come apart
                piece = client.recv(2**16)
                assert piece, answer
                answer += piece
        watching.join(PATIENCE)
    assert max(turns) < 0.3
