"""What the HTTP server does for all applications."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ranker.office.app import application
from tests.office.support import ask, served
from tests.office.test_limited_connection import connected, everything


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def here(request: Request) -> Response:  # noqa: ARG001
    return PlainTextResponse("here")


async def told(request: Request) -> Response:
    """What an application is told of a request."""
    raw = request.scope["raw_path"].decode()
    return PlainTextResponse(f"{request.url.path} {raw} {request.url.query} {request.url.hostname}")


ROUTES = [Route("/echo", echo, methods=["POST"]), Route("/here", here)]


def test_a_body_that_says_its_end_in_two_ways_is_refused():
    said = (
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\n\r\n"
    )
    with served(application(ROUTES)) as port, connected(port) as client:
        client.sendall(said + b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n")
        found = everything(client)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"expected Content-Length or Transfer-Encoding" in found
    assert found.count(b"HTTP/1.1 ") == 1, "what may be another request was answered"


def test_a_slash_too_many_leads_nowhere():
    with served(application(ROUTES)) as port:
        for method in ("GET", "POST"):
            answer = ask(port, "/here/", method=method, headers={"Host": "example.org"})
            assert answer.status == 404
            assert "location" not in answer.headers


def test_each_response_is_counted_by_its_status():
    found: list[int] = []
    with served(application(ROUTES), on_response=found.append) as port:
        for path, method in (("/here", "GET"), ("/there", "GET"), ("/here", "POST")):
            assert ask(port, path, method=method).status == found[-1]
        both = {"Content-Length": "0", "Transfer-Encoding": "chunked"}
        assert ask(port, "/echo", method="POST", headers=both).status == 400
    assert found == [200, 404, 405, 400]


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        pytest.param("http://a.test/told/a%20b?c=d", "/told/a b /told/a%20b c=d a.test", id="http"),
        pytest.param("HTTPS://a.test:1/told/x", "/told/x /told/x  a.test", id="https"),
        pytest.param(
            "http://a.test/told/?u=http://b/", "/told/ /told/ u=http://b/ a.test", id="query"
        ),
        pytest.param("http://a.test/told/http://b/", "/told/http://b/ ", id="only-once"),
        pytest.param("http://a.test", "nothing at /", id="no-path"),
        pytest.param("http://a.test?c=d", "nothing at /", id="no-path-but-a-query"),
        pytest.param("/told/x", "/told/x /told/x  x", id="a-path"),
        pytest.param("/http://a.test/told/x", "404", id="a-path-that-looks-like-one"),
        pytest.param("http%3A//a.test/told/x", "404", id="escaped"),
        pytest.param("http:///told/x", "404", id="no-host"),
        pytest.param("ftp://a.test/told/x", "404", id="another-scheme"),
    ],
)
def test_a_target_with_a_host_is_that_path_of_it(target, answer):
    async def nothing(request: Request) -> Response:
        return PlainTextResponse(f"nothing at {request.url.path}")

    routes = [Route("/told/{rest:path}", told), Route("/", nothing)]
    with served(application(routes)) as port, connected(port) as client:
        about = "Host: x\r\nConnection: close"
        client.sendall(f"GET {target} HTTP/1.1\r\n{about}\r\n\r\n".encode())
        found = everything(client).decode()
    assert answer in found
