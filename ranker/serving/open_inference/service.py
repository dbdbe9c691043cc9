"""The RPCs of `inference.GRPCInferenceService`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from ranker.errors import UnimplementedError
from ranker.inference import open_inference_pb2 as pb
from ranker.rpc import Method, Respond
from ranker.serving.generation import Generation
from ranker.serving.health import Health
from ranker.serving.intake import Intake
from ranker.serving.open_inference import descriptions
from ranker.serving.open_inference.wire import INFER, STREAM_INFER
from ranker.serving.stream import RankStreamHandler
from ranker.serving.unary import RankHandler
from ranker.v1 import ranking_pb2 as ranker_pb

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

_NO_SHARED_MEMORY = "shared memory is not supported; send tensors in the message"
_NO_LOADING = "the server's configuration says what is served (ranker serve --config)"

_EMPTY = (
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
"""Methods that truly answer: there is nothing. What is asked is not read."""

_REFUSED = {
    "RepositoryModelLoad": _NO_LOADING,
    "RepositoryModelUnload": _NO_LOADING,
    "SystemSharedMemoryRegister": _NO_SHARED_MEMORY,
    "CudaSharedMemoryRegister": _NO_SHARED_MEMORY,
}
"""Methods that the server does not have, and why."""


class OpenInferenceService:
    """All of the service's methods.

    Args:
        intake: lets candidate lists in.
        health: whether the server serves.
        version: of the server, as it tells callers.
    """

    def __init__(self, intake: Intake, health: Health, version: str) -> None:
        self._intake = intake
        self._health = health
        self._version = version
        self._streams = RankStreamHandler(intake, STREAM_INFER, in_order=True)
        self._unserved: Sequence[ranker_pb.Model] = ()

    def tell(self, unserved: Sequence[ranker_pb.Model]) -> None:
        """Has the index name these versions too, which are wanted and not served."""
        self._unserved = unserved

    def methods(self) -> dict[str, Method]:
        """The method table, for a transport."""
        live = pb.ServerLiveResponse(live=True).SerializeToString()
        metadata = descriptions.server_metadata(self._version)
        methods = {
            "ModelInfer": Method(RankHandler(self._intake, INFER)),
            "ModelStreamInfer": Method(
                self._streams, request_streaming=True, response_streaming=True
            ),
            "ServerLive": Method(Respond(lambda _: live), vital=True, public=True),
            "ServerReady": Method(Respond(self._ready), vital=True, public=True),
            "ServerMetadata": Method(Respond(lambda _: metadata)),
            "RepositoryIndex": Method(
                Respond(
                    lambda data: descriptions.repository_index(
                        self._intake.generation, self._unserved, data
                    )
                )
            ),
        }
        for name, describe in (
            ("ModelReady", descriptions.model_ready),
            ("ModelMetadata", descriptions.model_metadata),
            ("ModelConfig", descriptions.model_config),
            ("ModelStatistics", descriptions.model_statistics),
        ):
            methods[name] = Method(Respond(functools.partial(self._describe, describe)))
        for name in _EMPTY:
            methods[name] = Method(Respond(lambda _: b""))
        for name, why in _REFUSED.items():
            methods[name] = Method(Respond(functools.partial(_refuse, name, why)))
        return {f"/{SERVICE}/{name}": method for name, method in methods.items()}

    def drain(self) -> None:
        """Ends streams once they have their answers."""
        self._streams.drain()

    def _ready(self, _: bytes) -> bytes:
        return pb.ServerReadyResponse(ready=self._health.serving).SerializeToString()

    def _describe(self, describe: Callable[[Generation, bytes], bytes], data: bytes) -> bytes:
        return describe(self._intake.generation, data)


def _refuse(name: str, why: str, _: bytes) -> bytes:
    raise UnimplementedError(f"{name}: {why}")
