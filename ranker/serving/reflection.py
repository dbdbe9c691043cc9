"""gRPC server reflection, so that tools can call the server without the .proto file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from ranker.methods import REFLECTION
from ranker.rpc import Call, Handler, Method
from ranker.serving.wire import read_message


def methods(services: Sequence[str]) -> dict[str, Method]:
    """The method table of both versions, for a transport.

    Args:
        services: the full names of the services that the server offers.
    """
    method = Method(
        _Reflection([*services, *REFLECTION]), request_streaming=True, response_streaming=True
    )
    return {f"/{service}/ServerReflectionInfo": method for service in REFLECTION}


class _Reflection(Handler):
    """Answers each question of a stream in turn, by grpcio-reflection's own servicer."""

    def __init__(self, services: Sequence[str]) -> None:
        self._answers: Any = ReflectionServicer(services).ServerReflectionInfo

    def message(self, call: Call, data: bytes) -> bool:
        request = read_message(pb.ServerReflectionRequest, data)
        for response in self._answers(iter([request]), None):
            call.send(response.SerializeToString())
        return True

    def half_closed(self, call: Call) -> None:
        call.finish()
