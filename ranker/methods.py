"""The names of all methods that a server has.

Written out, so that the processes that only count calls by method need not import
what answers them; a worker compares them with the methods that it really serves.
"""

from __future__ import annotations

SERVICES = (
    "ranker.v1.RankingService",
    "grpc.health.v1.Health",
    "inference.GRPCInferenceService",
)
"""The full names of the services that every server offers, beside reflection."""

REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""Two versions that differ in their name only; tools ask for either."""

_OPEN_INFERENCE_NAMES = (
    *("ServerLive", "ServerReady", "ServerMetadata"),
    *("ModelReady", "ModelMetadata", "ModelInfer", "ModelStreamInfer"),
    *("ModelConfig", "ModelStatistics", "TraceSetting", "LogSettings"),
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    *(
        f"{kind}SharedMemory{verb}"
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    ),
)

OPEN_INFERENCE = tuple(f"/{SERVICES[2]}/{name}" for name in _OPEN_INFERENCE_NAMES)
"""Full method names of the Open Inference Protocol, which most servers' callers do not speak."""

METHODS = (
    *(f"/{SERVICES[0]}/{name}" for name in ("Rank", "RankStream", "GetModel", "ListModels")),
    *(f"/{SERVICES[1]}/{name}" for name in ("Check", "List", "Watch")),
    *OPEN_INFERENCE,
    *(f"/{service}/ServerReflectionInfo" for service in REFLECTION),
)
"""Full method names, `/package.Service/Method`."""
