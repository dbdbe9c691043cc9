"""The Open Inference Protocol's REST, version 2, and what Triton has beside it.

Each request is written as a message of the protocol and asked of a worker, as that of `Api`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ranker.errors import InvalidRequestError, NotFoundError
from ranker.inference import open_inference_pb2 as pb
from ranker.office.api import MODEL_SECONDS, json_response, unless_gone
from ranker.office.bodies import JSON, MOST_BYTES, OCTETS, Bodies, check_coding
from ranker.office.infer_json import as_plain, read_infer_json, write_infer_json
from ranker.office.json_text import as_flag, as_object, read_json
from ranker.office.workers import Workers

PREFIX = "/v2"

HEALTH_PATHS = (f"{PREFIX}/health/live", f"{PREFIX}/health/ready")
"""Whether the server lives, and whether it is ready."""

JSON_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON, if tensors follow it."""

_MODEL = f"{PREFIX}/models/{{model:name}}"
_VERSION = f"{_MODEL}/versions/{{version:name}}"
_REGION = "/region/{name:path}"

Endpoint = Callable[[Request], Awaitable[Response]]

_NOTHING_THERE: Mapping[str, list[object]] = {
    f"{PREFIX}/systemsharedmemory/status": [],
    f"{PREFIX}/systemsharedmemory{_REGION}/status": [],
    f"{PREFIX}/cudasharedmemory/status": [],
    f"{PREFIX}/cudasharedmemory{_REGION}/status": [],
}
"""Pages about what the server never has."""

_SETTINGS = (f"{PREFIX}/trace/setting", f"{_MODEL}/trace/setting", f"{PREFIX}/logging")
"""Pages of settings: there are none, whatever is to be changed."""

_NOTHING_TO_DO = (
    f"{PREFIX}/systemsharedmemory/unregister",
    f"{PREFIX}/systemsharedmemory{_REGION}/unregister",
    f"{PREFIX}/cudasharedmemory/unregister",
    f"{PREFIX}/cudasharedmemory{_REGION}/unregister",
)

_REFUSED = {
    f"{PREFIX}/systemsharedmemory{_REGION}/register": "SystemSharedMemoryRegister",
    f"{PREFIX}/cudasharedmemory{_REGION}/register": "CudaSharedMemoryRegister",
    f"{PREFIX}/repository/models/{{name:path}}/load": "RepositoryModelLoad",
    f"{PREFIX}/repository/models/{{name:path}}/unload": "RepositoryModelUnload",
}
"""What the workers refuse, by their methods."""


class OpenInference:
    """Answers `/v2` and what is under it.

    Args:
        workers: who ranks.
        bodies: room for what is asked.
        most_rows: the most candidates in one request.
        serving: whether a worker serves.
    """

    def __init__(
        self, workers: Workers, bodies: Bodies, most_rows: int, serving: Callable[[], bool]
    ) -> None:
        self._workers = workers
        self._bodies = bodies
        self._most_rows = most_rows
        self._serving = serving

    def routes(self) -> list[BaseRoute]:
        """What it answers."""
        routes = [
            Route(PREFIX, self.server_metadata, methods=["GET"]),
            Route(HEALTH_PATHS[0], self.live, methods=["GET"]),
            Route(HEALTH_PATHS[1], self.ready, methods=["GET"]),
            Route(f"{PREFIX}/repository/index", self.index, methods=["POST"]),
            Route(f"{PREFIX}/models/stats", self.statistics, methods=["GET"]),
        ]
        for base in (_MODEL, _VERSION):
            routes += [
                Route(f"{base}/infer", self.infer, methods=["POST"]),
                Route(f"{base}/ready", self.model_ready, methods=["GET"]),
                Route(f"{base}/config", self.config, methods=["GET"]),
                Route(f"{base}/stats", self.statistics, methods=["GET"]),
                Route(base, self.metadata, methods=["GET"]),
            ]
        routes += [Route(path, _constant(value)) for path, value in _NOTHING_THERE.items()]
        routes += [Route(path, _constant({}), methods=["GET", "POST"]) for path in _SETTINGS]
        routes += [Route(path, _constant({}), methods=["POST"]) for path in _NOTHING_TO_DO]
        routes += [
            Route(path, self._refuse(method), methods=["POST"]) for path, method in _REFUSED.items()
        ]
        return [*routes]

    async def live(self, request: Request) -> Response:  # noqa: ARG002
        """The office answers, so that something lives."""
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002
        """200: a worker serves; 503: all of them load models or drain."""
        ready = self._serving()
        return json_response({"ready": ready}, 200 if ready else 503)

    async def server_metadata(self, request: Request) -> Response:  # noqa: ARG002
        """Name, version, extensions."""
        answer = await self._ask("ServerMetadata", pb.ServerMetadataRequest())
        return json_response(as_plain(pb.ServerMetadataResponse.FromString(answer)))

    async def metadata(self, request: Request) -> Response:
        """A model's versions and tensors."""
        name, version = _named(request)
        answer = await self._ask(
            "ModelMetadata", pb.ModelMetadataRequest(name=name, version=version)
        )
        return json_response(as_plain(pb.ModelMetadataResponse.FromString(answer)))

    async def model_ready(self, request: Request) -> Response:
        """200: the model is served; 404: it is not."""
        name, version = _named(request)
        answer = await self._ask("ModelReady", pb.ModelReadyRequest(name=name, version=version))
        if not pb.ModelReadyResponse.FromString(answer).ready:
            wanted = f"{name}@{version.removeprefix('@')}" if version else name
            raise NotFoundError(f"no model {wanted}, or it is not ready")
        return json_response({"name": name, "ready": True})

    async def config(self, request: Request) -> Response:
        """A model as Triton's tools want it."""
        name, version = _named(request)
        answer = await self._ask("ModelConfig", pb.ModelConfigRequest(name=name, version=version))
        return json_response(as_plain(pb.ModelConfigResponse.FromString(answer).config))

    async def statistics(self, request: Request) -> Response:
        """What was counted of a model, or of all."""
        name, version = _named(request)
        answer = await self._ask(
            "ModelStatistics", pb.ModelStatisticsRequest(name=name, version=version)
        )
        return json_response(as_plain(pb.ModelStatisticsResponse.FromString(answer)))

    async def index(self, request: Request) -> Response:
        """Every version, and what became of it."""
        with self._bodies.room() as body:
            data = await body.read(request, JSON)
        asked = as_object("", read_json(data, 0) if data else {}, ("ready",))
        ready = as_flag("ready", asked.get("ready", False))
        answer = await self._ask("RepositoryIndex", pb.RepositoryIndexRequest(ready=ready))
        return json_response(as_plain(pb.RepositoryIndexResponse.FromString(answer))["models"])

    async def infer(self, request: Request) -> Response:
        """Ranks one list."""
        with self._bodies.room() as body:
            check_coding(request)
            said = request.headers.get(JSON_LENGTH)
            data = await body.read(request, JSON if said is None else OCTETS)
            length = len(data) if said is None else _json_length(said, len(data))
            async with self._bodies.turn():
                value = read_json(data[:length], self._most_rows, nan=True)
                asked = read_infer_json(value, data[length:])
            message, seconds, form = asked.message, asked.seconds, asked.form
            message.model_name, message.model_version = _named(request)
            encoded = message.SerializeToString()
            body.hold(len(encoded))
            del data, value, asked, message
            traceparent = request.headers.get("traceparent")
            work = self._workers.open_inference("ModelInfer", encoded, seconds, traceparent)
            answer = await unless_gone(request, work)
        text, tail = write_infer_json(answer, form)
        if not tail:
            return Response(text, media_type=JSON)
        return Response(text + tail, 200, {JSON_LENGTH: str(len(text))}, OCTETS)

    async def _ask(self, method: str, request: Message) -> bytes:
        encoded = request.SerializeToString()
        return await self._workers.open_inference(method, encoded, MODEL_SECONDS)

    def _refuse(self, method: str) -> Endpoint:
        """Answers what the workers say, who know why."""

        async def answer(request: Request) -> Response:  # noqa: ARG001
            await self._workers.open_inference(method, b"", MODEL_SECONDS)
            return json_response({})

        return answer


def _constant(value: list[object] | dict[str, object]) -> Endpoint:
    async def answer(request: Request) -> Response:  # noqa: ARG001
        return json_response(value)

    return answer


def _named(request: Request) -> tuple[str, str]:
    """The model and version of a path; empty if it has none."""
    return request.path_params.get("model", ""), request.path_params.get("version", "")


def _json_length(said: str, size: int) -> int:
    """How much of a body is JSON, as its header says."""
    most = min(size, MOST_BYTES[JSON])
    if not (said.isascii() and said.isdecimal() and len(said) < 10 and int(said) <= most):
        raise InvalidRequestError(
            JSON_LENGTH, f"expected a number of bytes, at most {most}, got {said[:40]!r}"
        )
    return int(said)
