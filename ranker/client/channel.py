"""The server's methods, and how the clients' channels to it are set.

Balancing is gRPC's own round robin over every address that the target's name
resolves to. One connection still ends at one server process; behind a port
that several processes share, a client spreads its requests over `channels`
connections of its own.

Unary calls are retried, which is safe because ranking changes nothing on the
server: asked twice, it answers twice. UNAVAILABLE is retried by
`ranker.client.retry`, RESOURCE_EXHAUSTED by gRPC itself: a server that is
overloaded says when to come back (`grpc-retry-pushback-ms`), or not to (`-1`),
which only gRPC gets to see. Where such a retry would come too late the call
ends at its deadline. gRPC can't tell RESOURCE_EXHAUSTED with that hint from
one without, which it retries, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ranker.client.tls import Tls
from ranker.v1 import ranking_pb2 as pb

SERVICE = "ranker.v1.RankingService"

# The path, the request's writer and the answer's reader, as a channel takes them.
# `rank_request` gives bytes already.
RANK = (f"/{SERVICE}/Rank", None, pb.RankResponse.FromString)
RANK_STREAM = (f"/{SERVICE}/RankStream", None, pb.RankResponse.FromString)
GET_MODEL = (
    f"/{SERVICE}/GetModel",
    pb.GetModelRequest.SerializeToString,
    pb.GetModelResponse.FromString,
)
LIST_MODELS = (
    f"/{SERVICE}/ListModels",
    pb.ListModelsRequest.SerializeToString,
    pb.ListModelsResponse.FromString,
)

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            # Not RankStream: a stream's break is reported to each of its requests.
            "name": [
                {"service": SERVICE, "method": method}
                for method in ("Rank", "GetModel", "ListModels")
            ],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
            },
        }
    ],
    # A failure costs one token and a success earns a tenth; retries stop below
    # half. A burst of failures is retried, a lasting outage is not made worse.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

OPTIONS: tuple[tuple[str, int | str], ...] = (
    # Channels of equal settings would share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC gives up retrying a request above this size: 256 KiB by default, a
    # thousand candidates with 64 features.
    ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
    # 4 MiB by default. How much to return is the caller's choice, by top_k.
    ("grpc.max_receive_message_length", -1),
    # By default gRPC waits for up to two minutes before it tries a lost server
    # again, and for half a minute before it asks for the name's addresses again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
)
"""Channel arguments, for `grpc` and `grpc.aio` alike."""


def connect(
    api: Any, target: str, options: Sequence[tuple[str, int | str]], tls: Tls | None
) -> Any:
    """A channel of `grpc` or `grpc.aio`, whichever `api` is. Raises what `Tls.credentials` does."""
    if tls is None:
        return api.insecure_channel(target, options=options)
    return api.secure_channel(target, tls.credentials(), options=(*options, *tls.options))


def options(watch_health: bool) -> tuple[tuple[str, int | str], ...]:
    """Channel arguments of the clients: `OPTIONS` and the service config.

    Args:
        watch_health: whether each connection watches its server's health, so
            that one which drains is left before it refuses anything.
    """
    config = dict(
        SERVICE_CONFIG, **({"healthCheckConfig": {"serviceName": ""}} if watch_health else {})
    )
    return (("grpc.service_config", json.dumps(config)), *OPTIONS)
