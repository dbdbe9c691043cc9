"""An HTTP server of the office, on a thread."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from ranker.office.http_server import HttpServer
from ranker.process.address import bind_http
from tests.waiting import PATIENCE


@contextmanager
def served(
    application: ASGIApp,
    context: Callable[[], ssl.SSLContext] | None = None,
    on_response: Callable[[int], None] = lambda _: None,
) -> Iterator[int]:
    """Serves an application, secured if there is a context; gives the port."""
    sockets = bind_http("a test", "127.0.0.1", 0)
    port = int(sockets[0].getsockname()[1])
    server = HttpServer({port: application}, sockets, on_response, context)
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await server.run_until_stopped()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield port
    finally:
        loops[0].call_soon_threadsafe(server.stop)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"


@dataclass
class Answer:
    """What an HTTP server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    path: str,
    body: bytes | object | None = None,
    method: str = "",
    headers: dict[str, str] | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """One request on a connection of its own; a body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        about = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            about.setdefault("Content-Type", "application/json")
        connection.request(method or ("GET" if body is None else "POST"), path, body, about)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()
