"""The gRPC health service, `grpc.health.v1.Health`.

Says SERVING once the models are warmed and NOT_SERVING as soon as the server
drains, for the server as a whole (the empty name) and for each of its services.
"""

from __future__ import annotations

from collections.abc import Sequence

from grpc_health.v1 import health_pb2 as pb

from ranker.errors import NotFoundError
from ranker.rpc import Call, Handler, Method, Respond
from ranker.serving.wire import read_message

SERVICE = pb.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """What the server says of itself. Used on the loop's thread only.

    Args:
        services: the full names of the services that it speaks for.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._services = ("", *services)
        self._status = pb.HealthCheckResponse.NOT_SERVING
        self._watchers: dict[Call, str | None] = {}  # None: of a service that is not ours

    @property
    def serving(self) -> bool:
        """Whether it says SERVING."""
        return bool(self._status == pb.HealthCheckResponse.SERVING)

    def set_serving(self, serving: bool) -> None:
        """Changes the status of all services and tells those who watch."""
        kind = pb.HealthCheckResponse
        status = kind.SERVING if serving else kind.NOT_SERVING
        if status == self._status:
            return
        self._status = status
        for call, service in self._watchers.items():
            call.send(self._response(service).SerializeToString())

    def drain(self) -> None:
        """Says NOT_SERVING, for the last time to those who watch."""
        self.set_serving(False)
        for call in list(self._watchers):
            call.finish()

    def methods(self) -> dict[str, Method]:
        """The service's method table, for a transport."""
        return {
            f"/{SERVICE}/Check": Method(Respond(self._check), vital=True, public=True),
            f"/{SERVICE}/List": Method(Respond(self._list), public=True),
            f"/{SERVICE}/Watch": Method(_Watch(self), response_streaming=True, public=True),
        }

    def watch(self, call: Call, service: str) -> None:
        """Sends the status of a service now and whenever it changes."""
        # Of a name that is not ours nothing is kept: the caller chose its length.
        self._watchers[call] = service if service in self._services else None
        call.send(self._response(service).SerializeToString())

    def unwatch(self, call: Call) -> None:
        """Ends what `watch` began."""
        self._watchers.pop(call, None)

    def _response(self, service: str | None) -> pb.HealthCheckResponse:
        known = service in self._services
        return pb.HealthCheckResponse(
            status=self._status if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
        )

    def _check(self, data: bytes) -> bytes:
        service = read_message(pb.HealthCheckRequest, data).service
        if service not in self._services:
            known = ", ".join(self._services[1:])
            raise NotFoundError(f"no service {service!r}; this server has {known}")
        return bytes(self._response(service).SerializeToString())

    def _list(self, data: bytes) -> bytes:
        read_message(pb.HealthListRequest, data)
        statuses = {service: self._response(service) for service in self._services}
        return bytes(pb.HealthListResponse(statuses=statuses).SerializeToString())


class _Watch(Handler):
    """`Watch`: answers a change of status for as long as the caller stays."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def message(self, call: Call, data: bytes) -> bool:
        self._health.watch(call, read_message(pb.HealthCheckRequest, data).service)
        return True

    def closed(self, call: Call) -> None:
        self._health.unwatch(call)
