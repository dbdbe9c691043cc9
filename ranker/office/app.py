"""The office's applications: what is answered on which path."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ranker.errors import InternalError, RankerError
from ranker.incident import incident
from ranker.metrics.exporters import Page
from ranker.office.problem import http_problem, problem

logger = logging.getLogger(__name__)


HEALTH_PATHS = ("/healthz", "/readyz")
"""What `health_routes` answers."""


def application(routes: Sequence[BaseRoute]) -> Starlette:
    """An application whose errors are problem details."""
    made = Starlette(
        routes=routes,
        middleware=[Middleware(_Incidents)],
        exception_handlers={RankerError: _on_error, HTTPException: _on_http_error},
    )
    # Else a path with a slash too many leads to whatever host the client says that this is.
    made.router.redirect_slashes = False
    return made


def health_routes(serving: Callable[[], bool]) -> list[BaseRoute]:
    """`/healthz`: the office moves; `/readyz`: a worker serves.

    Args:
        serving: whether there is one.
    """

    async def healthz(request: Request) -> Response:  # noqa: ARG001
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:  # noqa: ARG001
        if serving():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("no worker serves: still loading, or draining\n", 503)

    return [Route(path, page) for path, page in zip(HEALTH_PATHS, (healthz, readyz), strict=True)]


def page_routes(pages: Sequence[Page]) -> list[BaseRoute]:
    """The exporters' pages."""
    return [Route(page.path, _endpoint(page), methods=["GET"]) for page in pages]


def _endpoint(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        reply = page.read(request.headers)
        return Response(reply.body, headers=dict(reply.headers))

    return answer


class _Incidents:
    """Answers what nobody foresaw with an incident's id, and has the log say the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noticing_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noticing_send)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            headers = dict(scope["headers"])
            traceparent = headers.get(b"traceparent", b"").decode("latin-1") or None
            what = incident(logger, "answering over HTTP failed", error, traceparent)
            if not begun:
                await problem(scope["path"], InternalError(what))(scope, receive, send)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RankerError)
    return problem(request.url.path, error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http_problem(request.url.path, error.status_code, error.detail, error.headers)
