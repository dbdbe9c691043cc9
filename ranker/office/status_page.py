"""The status page at `/`, and the events that keep it up to date.

The page is one document with its style and its script inside. It reads `/events`, a stream of
server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): `points` of
`History`, the `models` as ListModels has them, `errors`, and `drift`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from importlib import resources

from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ranker.errors import OverloadedError, RankerError
from ranker.metrics.drift import Drift, ModelDrift
from ranker.office.history import STEP_SECONDS, History, Point
from ranker.office.recent_errors import RecentErrors
from ranker.office.workers import Workers

MOST_VIEWERS = 20
"""Pages that are kept up to date at a time."""

MOST_FEATURES = 20
"""Of each model, in the table of drift."""

STREAM_SECONDS = 50.0
"""How long a stream lasts; the page then opens another. A connection may not be busy for longer
than `ranker.office.limited_connection.TOTAL_SECONDS`."""

_MODELS_SECONDS = 5.0
"""How old a description of the models may be, and how long a worker may take to give it."""

_DRIFT_SECONDS = 5.0
"""How old the figures of drift may be."""


def document() -> tuple[bytes, dict[str, str]]:
    """The page, and the headers that forbid it everything but to show itself and to ask here."""
    parts = resources.files(__package__).joinpath("page")
    style = parts.joinpath("status.css").read_text()
    script = "\n".join(parts.joinpath(name).read_text() for name in ("status.js", "try.js"))
    page = parts.joinpath("status.html").read_text()
    page = page.replace("/* status.css */", style).replace("/* scripts */", script)
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'none'; "
        f"style-src {_allowed(style)}; script-src {_allowed(script)}"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return page.encode(), headers


def _allowed(text: str) -> str:
    """A source of a content security policy: this very text."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


class StatusPage:
    """Answers `/` and `/events`.

    Args:
        history: what the server did.
        workers: who know the models.
        errors: what went wrong.
        drift: how far features are from the training data.
    """

    def __init__(
        self, history: History, workers: Workers, errors: RecentErrors, drift: Drift
    ) -> None:
        self._history = history
        self._workers = workers
        self._errors = errors
        self._drift = drift
        self._shown_drift: object = []
        self._drift_due = 0.0
        self._viewers = 0
        self._closed = False
        self._news = asyncio.Event()
        self._models: object = None
        self._models_due = 0.0
        self._asking = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        """What it answers."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/events", self.events, methods=["GET"]),
        ]

    async def run(self) -> None:
        """Adds to the history, and tells the viewers; ends by being cancelled."""
        while True:
            await asyncio.sleep(STEP_SECONDS)
            self._history.tick()
            self._tell()

    def close(self) -> None:
        """Ends the streams."""
        self._closed = True
        self._tell()

    async def page(self, request: Request) -> Response:  # noqa: ARG002
        """The document."""
        body, headers = document()
        return Response(body, headers=headers, media_type="text/html")

    async def events(self, request: Request) -> Response:
        """The stream.

        Raises:
            OverloadedError: too many watch already.
        """
        headers = {"Cache-Control": "no-store"}
        if request.method == "HEAD":
            response = Response(headers=headers, media_type="text/event-stream")
            del response.headers["Content-Length"]
            return response
        if self._viewers >= MOST_VIEWERS:
            raise OverloadedError(f"{MOST_VIEWERS} pages are open already", STREAM_SECONDS)
        last = request.headers.get("last-event-id", "")
        stream = self._stream(int(last) if last.isdecimal() and len(last) < 20 else 0)
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _stream(self, last: int) -> AsyncIterator[bytes]:
        """Events until the stream's time is over; the points are those after `last`."""
        self._viewers += 1
        try:
            shown: object = None
            drift: object = None
            changes = -1
            until = time.monotonic() + STREAM_SECONDS
            while not self._closed and time.monotonic() < until:
                news = self._news
                points = self._history.since(last)
                if points:
                    last = points[-1].id
                    yield _event("points", _as_json(points), last)
                if changes != self._errors.changes:
                    changes = self._errors.changes
                    yield _event("errors", self._errors.latest())
                if drift != self._latest_drift():
                    drift = self._latest_drift()
                    yield _event("drift", drift)
                models = await self._described()
                if models != shown:
                    shown = models
                    yield _event("models", models)
                await news.wait()
        finally:
            self._viewers -= 1

    def _latest_drift(self) -> object:
        """How far features have drifted, worked out once in some seconds for all viewers."""
        if time.monotonic() >= self._drift_due:
            self._shown_drift = _drift(self._drift.models())
            self._drift_due = time.monotonic() + _DRIFT_SECONDS
        return self._shown_drift

    async def _described(self) -> object:
        """The models, asked for at most once for all viewers in some seconds."""
        async with self._asking:
            if time.monotonic() >= self._models_due:
                try:
                    answer = await self._workers.models(_MODELS_SECONDS)
                except RankerError as error:
                    self._models = {"error": error.message}
                else:
                    self._models = MessageToDict(
                        answer,
                        preserving_proto_field_name=True,
                        always_print_fields_with_no_presence=True,
                    )
                self._models_due = time.monotonic() + _MODELS_SECONDS
            return self._models


def _as_json(points: Sequence[Point]) -> list[dict[str, object]]:
    return [asdict(point) for point in points]


def _drift(models: Sequence[ModelDrift]) -> list[dict[str, object]]:
    """What the page shows: the worst features of each model, and how many others there are."""
    shown = []
    for model in models:
        worst = replace(model, features=model.features[:MOST_FEATURES], rows=round(model.rows))
        shown.append({**asdict(worst), "others": len(model.features) - len(worst.features)})
    return shown


def _event(kind: str, data: object, number: int | None = None) -> bytes:
    mark = "" if number is None else f"id: {number}\n"
    return f"{mark}event: {kind}\nretry: 1000\ndata: {json.dumps(data)}\n\n".encode()
