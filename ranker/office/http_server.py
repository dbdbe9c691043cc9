"""The HTTP server: applications on sockets, on one asyncio loop."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ranker.office.handshake import Handshakes
from ranker.office.limited_connection import HEAD_BYTES, IDLE_SECONDS, LimitedConnection
from ranker.office.problem import http_problem

_BACKLOG = 128
"""Connections that the kernel may hold until the loop takes them, which it does all at once."""

_ABSOLUTE = re.compile(rb"https?://([^/]+)(/.*)?", re.IGNORECASE)
"""A request's target, without its query, in the form that clients send to proxies."""

_STOP_SECONDS = 1
"""Seconds that answers may still take when the server stops."""


class HttpServer(uvicorn.Server):
    """Serves each application on sockets of its own.

    Args:
        applications: by the port that they are on.
        sockets: bound to these ports.
        on_response: is told the status of each response as it begins, but for those that uvicorn
            gives to what is no HTTP.
        context: says what a new connection on any of them gets, for TLS; None: plain HTTP.
    """

    def __init__(
        self,
        applications: Mapping[int, ASGIApp],
        sockets: Sequence[socket.socket],
        on_response: Callable[[int], None],
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        # What it logs is that clients send nonsense, which is not news, and uncaught
        # exceptions, of which there are none: see `ranker.office.app`.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)

        async def by_port(scope: Scope, receive: Receive, send: Send) -> None:
            app = applications[scope["server"][1]]
            _leave_host_out(scope)
            if _has_two_ends(scope):
                app = http_problem(
                    scope["path"],
                    400,
                    "expected Content-Length or Transfer-Encoding, got both",
                    {"Connection": "close"},
                )

            async def telling_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    on_response(message["status"])
                await send(message)

            await app(scope, receive, telling_send)

        # Our context: its files change, and uvicorn would read them once.
        protocol: Any = (
            LimitedConnection if context is None else Handshakes(context, LimitedConnection)
        )
        super().__init__(
            uvicorn.Config(
                by_port,
                http=protocol,
                ws="none",
                lifespan="off",
                loop="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                h11_max_incomplete_event_size=HEAD_BYTES,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=_STOP_SECONDS,
            )
        )
        self._sockets = list(sockets)

    async def run_until_stopped(self) -> None:
        """Serves until `stop` is called."""
        await self.serve(self._sockets)

    def stop(self) -> None:
        """Has `run_until_stopped` return soon; call it on the loop's thread."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the process."""
        yield


def _leave_host_out(scope: Scope) -> None:
    """Has a target with a scheme and a host stand for its path; the host is then the request's.

    https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
    """
    found = _ABSOLUTE.fullmatch(scope["raw_path"])
    if found is None:
        return
    host, path = found[1], found[2] or b"/"
    scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    scope["headers"] = [(b"host", host), *others]


def _has_two_ends(scope: Scope) -> bool:
    """Whether a proxy before the server may have taken another end of the body than the server.

    https://www.rfc-editor.org/rfc/rfc9112#section-6.3-2.3
    """
    return {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}
