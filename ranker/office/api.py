"""JSON over HTTP: candidate lists to rank, and what there is to rank them with.

Each request is written as a RankRequest and asked of a worker, which checks, admits,
scores and counts it as any other.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ranker.errors import InvalidRequestError
from ranker.office import openapi
from ranker.office.bodies import JSON, PROTOBUF, Bodies, media_type
from ranker.office.json_text import read_json
from ranker.office.rank_json import (
    DEFAULT_MS,
    MOST_MS,
    Asked,
    read_rank_json,
    write_matrix,
    write_rank_json,
)
from ranker.office.workers import FORWARDED, Workers
from ranker.v1 import ranking_pb2 as pb

MODEL_SECONDS = 5.0
"""How long a worker may take to describe a model."""

_MODEL = "/v1/models/{model:name}"
_VERSION = "/versions/{version:name}"
_LABEL = "/labels/{label:name}"

T = TypeVar("T")


class _Name(Convertor[str]):
    """A model's name, version or label in a path: what follows a colon is no part of it."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("name", _Name())


class Api:
    """Answers `/v1/models` and what is under it.

    Args:
        workers: who ranks.
        bodies: room for what is asked.
        most_rows: the most candidates in one request.
    """

    def __init__(self, workers: Workers, bodies: Bodies, most_rows: int) -> None:
        self._workers = workers
        self._bodies = bodies
        self._most_rows = most_rows

    def routes(self) -> list[BaseRoute]:
        """What it answers."""
        return [
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route(f"{_MODEL}:rank", self.rank, methods=["POST"]),
            Route(f"{_MODEL}{_VERSION}:rank", self.rank, methods=["POST"]),
            Route(f"{_MODEL}{_LABEL}:rank", self.rank, methods=["POST"]),
            Route(f"{_MODEL}{_VERSION}", self.model, methods=["GET"]),
            Route(f"{_MODEL}{_LABEL}", self.model, methods=["GET"]),
            Route(_MODEL, self.model, methods=["GET"]),
        ]

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002
        """Describes all of it: OpenAPI 3.1."""
        return Response(openapi.text(), media_type=JSON)

    async def models(self, request: Request) -> Response:  # noqa: ARG002
        """Describes every model."""
        return json_response(_described(await self._workers.models(MODEL_SECONDS)))

    async def model(self, request: Request) -> Response:
        """Describes one model."""
        model, version = _named(request)
        described = await self._workers.model(model, version, "", MODEL_SECONDS)
        return json_response(_described(described))

    async def rank(self, request: Request) -> Response:
        """Ranks one list."""
        with self._bodies.room() as body:
            kind = media_type(request, JSON, PROTOBUF)
            data = await body.read(request, kind)
            async with self._bodies.turn():
                asked = self._read(kind, data)
            asked.message.model, asked.message.model_version = _named(request, asked.message)
            await check_required(self._workers, asked)
            encoded, seconds = asked.message.SerializeToString(), asked.seconds
            body.hold(len(encoded))
            del data, asked
            traceparent = request.headers.get("traceparent")
            answer = await unless_gone(request, self._workers.rank(encoded, seconds, traceparent))
        if kind == PROTOBUF:
            return Response(answer, media_type=PROTOBUF)
        return json_response(write_rank_json(answer))

    def _read(self, kind: str, data: bytes) -> Asked:
        if kind == PROTOBUF:
            return read_protobuf(data)
        return read_rank_json(read_json(data, self._most_rows), self._most_rows)


def json_response(value: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(json.dumps(value, allow_nan=False), status, media_type=JSON)


async def check_required(workers: Workers, asked: Asked, place: str = "candidates") -> None:
    """Refuses candidates that lack a feature which their model requires.

    A worker sees a table, in which a feature that one candidate does not have is missing; of
    candidates that have none the table gets one of the model's, missing.
    The version that ranks must be the one that was asked: a request without a unit has its version
    drawn by what was drawn here. It is no unit: none has asked.

    Raises:
        InvalidRequestError: names the candidate and the feature.
        RankerError: whatever `Workers.model` raises.
    """
    if not (asked.lacking or asked.nameless):
        return
    message, lacking = asked.message, asked.lacking
    unit = message.unit
    if not unit:
        unit = secrets.token_hex(8)
        FORWARDED.set(FORWARDED.get()._replace(draw=unit))
    model = await workers.model(message.model, message.model_version, unit, MODEL_SECONDS)
    if asked.nameless:
        lacking = _name_one(message, model, place)
    for name in model.required_feature_names:
        if name in lacking:
            raise InvalidRequestError(
                f"{place}[{lacking[name]}].{name}",
                "the model requires this feature; if its value is missing, say null",
            )


def _name_one(message: pb.RankRequest, model: pb.Model, place: str) -> Mapping[str, int]:
    """Gives candidates that have no features one, missing; returns what they lack."""
    if not model.feature_names:
        raise InvalidRequestError(
            f"{place}[0]", "expected a list: the model's features have no names"
        )
    shared = frozenset(message.context.feature_names)
    lacking = [name for name in model.feature_names if name not in shared]
    if lacking:
        rows = [[None]] * message.candidates.rows
        message.feature_names.append(lacking[0])
        message.candidates.CopyFrom(write_matrix(place, rows))
    return dict.fromkeys(lacking, 0)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Does some work, or leaves it when the client has gone. The body must have been read.

    Raises:
        ClientDisconnect: it has gone.
        RankerError: whatever the work raises.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # after its body: only that it has gone
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


def _named(request: Request, message: pb.RankRequest | None = None) -> tuple[str, str]:
    """The model and version of a path.

    Args:
        request: has the path.
        message: must not name others.

    Raises:
        InvalidRequestError: it does.
    """
    model, version = request.path_params["model"], request.path_params.get("version", "")
    if label := request.path_params.get("label"):
        version = f"@{label}"
    for field, named in (("model", model), ("model_version", version)):
        said = getattr(message, field, "")
        if said and said != named:
            raise InvalidRequestError(field, f"the path says {named!r}, the message {said!r}")
    return model, version


def read_protobuf(data: bytes) -> Asked:
    """A request that is a message already."""
    try:
        message = pb.RankRequest.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError("request", "not a ranker.v1.RankRequest message") from error
    if message.deadline_ms > MOST_MS:
        raise InvalidRequestError(
            "deadline_ms", f"expected 0 to {MOST_MS}, got {message.deadline_ms}"
        )
    return Asked(message, (message.deadline_ms or DEFAULT_MS) / 1000)


def _described(message: pb.Model | pb.ListModelsResponse) -> dict[str, Any]:
    """A description as JSON, with the names of the .proto."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
