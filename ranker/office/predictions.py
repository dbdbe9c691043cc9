"""Vertex AI's requests: several candidate lists in one body of JSON, or one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from ranker.errors import InvalidRequestError
from ranker.office.api import check_required, json_response, read_protobuf, unless_gone
from ranker.office.bodies import JSON, MOST_BYTES, OCTETS, PROTOBUF, Bodies, media_type
from ranker.office.json_text import as_object, check_nested, parse_json, shown
from ranker.office.rank_json import MOST_EXPLAINED, SHARED, Asked, read_rank_json, write_rank_json
from ranker.office.workers import Workers

MOST_INSTANCES = 256
"""Of one body: they are all asked at once."""

MOST_NESTED = MOST_BYTES[JSON] // 8
"""Lists and objects of a body: one for each eight bytes of the largest. A candidate of three digits
has so many."""

MOST_SHARED = 2**18
"""Names of features that the instances of a body may have from its parameters, each counted for
each instance: every list is written out with them."""

PARAMETERS = ("top_k", "explain", "feature_names", "context", "deadline_ms")
"""What may be said once for all instances."""


class Predictions:
    """Answers Vertex AI.

    Args:
        workers: who ranks, with the server's default model.
        bodies: room for what is asked.
        most_rows: the most candidates in one list.
        serving: whether a worker serves.
    """

    def __init__(
        self, workers: Workers, bodies: Bodies, most_rows: int, serving: Callable[[], bool]
    ) -> None:
        self._workers = workers
        self._bodies = bodies
        self._most_rows = most_rows
        self._serving = serving

    def routes(self, health: str, predict: str) -> list[BaseRoute]:
        """What it answers, on the paths that Vertex AI has chosen."""
        return [
            Route(health, self.health, methods=["GET"]),
            Route(predict, self.predict, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """200: send requests; 503: do not, models load or the server drains."""
        serves = self._serving()
        return PlainTextResponse("ready\n" if serves else "not ready\n", 200 if serves else 503)

    async def predict(self, request: Request) -> Response:
        """Ranks each instance, or the one list of a message."""
        with self._bodies.room() as body:
            kind = media_type(request, JSON, PROTOBUF, OCTETS)
            data = await body.read(request, kind)
            traceparent = request.headers.get("traceparent")
            async with self._bodies.turn():
                lists = self._instances(data) if kind == JSON else [read_protobuf(data)]
            del data
            body.hold(sum(asked.message.ByteSize() for asked in lists))
            if kind != JSON:
                [asked] = lists
                work = self._workers.rank(
                    asked.message.SerializeToString(), asked.seconds, traceparent
                )
                return Response(await unless_gone(request, work), media_type=kind)
            explained = sum(map(_explained, lists)) or 1
            ranked = [
                self._rank(index, asked, traceparent, _explained(asked) / explained)
                for index, asked in enumerate(lists)
            ]
            return json_response({"predictions": await unless_gone(request, _all(ranked))})

    def _instances(self, data: bytes) -> list[Asked]:
        check_nested(
            data, MOST_NESTED, "instances", f"more than {MOST_NESTED} lists and objects in all"
        )
        body = as_object("", parse_json(data), ("instances", "parameters"))
        instances = body.get("instances")
        if not isinstance(instances, list) or not 0 < len(instances) <= MOST_INSTANCES:
            raise InvalidRequestError(
                "instances",
                f"expected a list of 1 to {MOST_INSTANCES} candidate lists, got {shown(instances)}",
            )
        parameters = body.get("parameters")
        parameters = as_object(SHARED, {} if parameters is None else parameters, PARAMETERS)
        for name in ("feature_names", "context"):
            shared = parameters.get(name)
            if isinstance(shared, list | dict) and len(shared) * len(instances) > MOST_SHARED:
                raise InvalidRequestError(
                    f"{SHARED}.{name}",
                    f"expected at most {MOST_SHARED // len(instances)} features for "
                    f"{len(instances)} instances, got {len(shared)}",
                )
        lists = [
            read_rank_json(
                {"candidates": instance} if isinstance(instance, list) else instance,
                self._most_rows,
                f"instances[{index}]",
                parameters,
            )
            for index, instance in enumerate(instances)
        ]
        explained = sum(map(_explained, lists))
        if explained > MOST_EXPLAINED:
            raise InvalidRequestError(
                "instances",
                f"expected at most {MOST_EXPLAINED} candidates to explain in all, got {explained}",
            )
        return lists

    async def _rank(
        self, index: int, asked: Asked, traceparent: str | None, share: float
    ) -> dict[str, Any]:
        """Ranks one of them, which may have so much of the room for explanations."""
        await check_required(self._workers, asked, f"instances[{index}].candidates")
        encoded = asked.message.SerializeToString()
        try:
            answer = await self._workers.rank(encoded, asked.seconds, traceparent)
            return write_rank_json(answer, share)
        except InvalidRequestError as error:
            name = error.field.partition(".")[0].partition("[")[0]
            place = SHARED if name in asked.shared else f"instances[{index}]"
            raise InvalidRequestError(f"{place}.{error.field}", error.description) from error


def _explained(asked: Asked) -> int:
    """How many candidates of a list are to be explained, at most."""
    return min(asked.message.explain, asked.message.candidates.rows)


async def _all(work: list[Any]) -> list[dict[str, Any]]:
    """Does all of it at once; if one part fails, the rest is left."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
