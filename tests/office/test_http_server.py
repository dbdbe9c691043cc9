"""What the HTTP server does for all applications."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ranker.office.app import application
from tests.office.support import ask, served
from tests.office.test_connection import connected, everything


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def here(request: Request) -> Response:  # noqa: ARG001
    return PlainTextResponse("here")


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
