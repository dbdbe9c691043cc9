"""The workers, as the office asks them: over gRPC, as any client does, at addresses of its own."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ranker.errors import QUOTA, DeadlineError, OverloadedError, RankerError, UnavailableError
from ranker.forwarded_caller import OFFICE, ForwardedCaller
from ranker.v1 import ranking_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import grpc.aio

_RANKING = "/ranker.v1.RankingService/"
_OPEN_INFERENCE = "/inference.GRPCInferenceService/"

_ATTEMPTS = 4
"""A worker that drains or has died refuses; another one may not."""

_PAUSE = 0.05
"""Seconds between two attempts."""

_MOST_TRACE = 256
"""Characters; a `traceparent` of today's version has 55."""

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)


FORWARDED: ContextVar[ForwardedCaller] = ContextVar("FORWARDED", default=OFFICE)
"""For whom the office asks now: each HTTP request is answered in a context of its own."""


@dataclass
class QuotaRefusal:
    """What workers say of the quota of an HTTP request's caller.

    Attributes:
        has_come: whether one has refused the request, or a part of it, for that.
        deadline: when it should have been answered, on the `time.monotonic` clock.
    """

    has_come: bool = False
    deadline: float = math.inf


REFUSAL: ContextVar[QuotaRefusal | None] = ContextVar("REFUSAL", default=None)
"""Where to note that; None: nobody wants to know."""


class Workers:
    """Asks one worker after the other.

    Connects when first asked, since gRPC takes time and memory that a server whose HTTP
    port nobody uses should not spend.

    Args:
        addresses: where each of them listens for the office.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._channels: list[grpc.aio.Channel] = []
        self._next: Iterator[grpc.aio.Channel] = iter(())

    async def rank(self, request: bytes, seconds: float, traceparent: str | None) -> bytes:
        """Ranks one list.

        Args:
            request: an encoded RankRequest.
            seconds: how long it may take.
            traceparent: the caller's trace context, if it sent one.

        Returns:
            An encoded RankResponse.

        Raises:
            RankerError: what the worker says, or that there is none.
        """
        return await self._ask(f"{_RANKING}Rank", request, seconds, traceparent)

    async def open_inference(
        self, method: str, request: bytes, seconds: float, traceparent: str | None = None
    ) -> bytes:
        """Calls a unary method of the Open Inference Protocol; like `rank`."""
        return await self._ask(f"{_OPEN_INFERENCE}{method}", request, seconds, traceparent)

    async def model(self, name: str, version: str, unit: str, seconds: float) -> pb.Model:
        """Describes a model; empty texts stand for the defaults. Raises as `rank` does."""
        request = pb.GetModelRequest(model=name, model_version=version, unit=unit)
        answer = await self._ask(f"{_RANKING}GetModel", request.SerializeToString(), seconds)
        return pb.GetModelResponse.FromString(answer).model

    async def models(self, seconds: float) -> pb.ListModelsResponse:
        """Describes all models. Raises as `rank` does."""
        answer = await self._ask(f"{_RANKING}ListModels", b"", seconds)
        return pb.ListModelsResponse.FromString(answer)

    async def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels:
            await channel.close(grace=None)

    async def _ask(
        self, method: str, request: bytes, seconds: float, traceparent: str | None = None
    ) -> bytes:
        import grpc

        from ranker.rpc_error import from_rpc_error

        if not self._channels:
            self._connect()
        metadata = FORWARDED.get().metadata()
        if traceparent and _is_carried(traceparent):
            metadata += (("traceparent", traceparent),)
        deadline = time.monotonic() + seconds
        for attempt in range(1, _ATTEMPTS + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # Bytes in, bytes out: what they say is for others to read.
            call = next(self._next).unary_unary(method, None, None)
            try:
                answer: bytes = await call(request, timeout=left, metadata=metadata)
            except grpc.RpcError as error:
                reason: RankerError = from_rpc_error(error)
                if isinstance(reason, OverloadedError) and reason.reason == QUOTA:
                    _note_refusal(deadline)
                if not isinstance(reason, UnavailableError) or attempt == _ATTEMPTS:
                    raise reason from error
            else:
                return answer
            await asyncio.sleep(_PAUSE)
        raise DeadlineError(f"no answer after {seconds:g} s")

    def _connect(self) -> None:
        from grpc.aio import insecure_channel

        self._channels = [insecure_channel(each, options=_OPTIONS) for each in self._addresses]
        self._next = itertools.cycle(self._channels)


def _is_carried(traceparent: str) -> bool:
    """Whether gRPC takes it along. What it does not is no trace context, which is to be ignored."""
    short = len(traceparent) <= _MOST_TRACE
    return short and traceparent.isascii() and traceparent.isprintable()


def _note_refusal(deadline: float) -> None:
    refusal = REFUSAL.get()
    if refusal is not None:
        refusal.has_come, refusal.deadline = True, min(refusal.deadline, deadline)
