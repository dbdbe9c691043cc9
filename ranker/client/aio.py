"""The client for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker.client import channel as wire
from ranker.client.aio_stream import AsyncRankStream
from ranker.client.model_list import ModelList
from ranker.client.question import AsyncWriter, Question
from ranker.client.ranking import Ranking
from ranker.client.request import RankOptions, checked_timeout
from ranker.client.retry import pause_before_retry, with_earlier
from ranker.client.sync import CLOSED, HEALTH_INTERVAL
from ranker.client.tls import Tls
from ranker.errors import CancelledError, DeadlineError, UnavailableError
from ranker.frames import Features
from ranker.rpc_error import from_rpc_error
from ranker.v1 import ranking_pb2


class AsyncRankerClient:
    """Ranks candidate lists on a server, as `RankerClient` does, from one event loop.

    async with AsyncRankerClient("localhost:50051") as client:
        ranking = await client.rank(features, top_k=10)
    """

    def __init__(
        self,
        target: str,
        *,
        channels: int = 1,
        timeout: float = 1.0,
        watch_health: bool = True,
        tls: Tls | None = None,
    ) -> None:
        """As `RankerClient`; call it where the event loop runs."""
        self._target = target
        self._timeout = timeout
        self._closed = False
        self._channels = [
            wire.connect(grpc.aio, target, wire.options(watch_health), tls) for _ in range(channels)
        ]
        if not self._channels:
            raise ValueError(f"channels: expected at least 1, got {channels}")
        self._rank = itertools.cycle([c.unary_unary(*wire.RANK) for c in self._channels])
        self._stream = itertools.cycle([c.stream_stream(*wire.RANK_STREAM) for c in self._channels])
        self._get_model = itertools.repeat(self._channels[0].unary_unary(*wire.GET_MODEL))
        self._list_models = itertools.repeat(self._channels[0].unary_unary(*wire.LIST_MODELS))
        self._checks = [health_pb2_grpc.HealthStub(c).Check for c in self._channels]
        self._writer = AsyncWriter(
            lambda model, version, unit, left: self.get_model(
                model, version, unit=unit, timeout=left
            )
        )

    async def rank(
        self, features: Features, *, timeout: float | None = None, **options: Unpack[RankOptions]
    ) -> Ranking:
        """Ranks one candidate list; takes and raises what `RankerClient.rank` does."""
        deadline = time.monotonic() + checked_timeout(self._timeout if timeout is None else timeout)
        question = Question(features, options)
        request, known = await self._writer.write(question, deadline)
        ranking = await self._ranked(request, deadline)
        if (other := await self._writer.other(question, known, ranking, deadline)) is not None:
            answer = await self._ranked(question.written_to(other), deadline)
            ranking = replace(answer, arm=ranking.arm)  # which chose the version
        return ranking

    def stream(self, *, max_in_flight: int = 64) -> AsyncRankStream:
        """Opens a stream, as `RankerClient.stream` does. See `AsyncRankStream`."""
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight: expected at least 1, got {max_in_flight}")
        with self._as_ranker_error():
            call = next(self._stream)(None)
        return AsyncRankStream(call, self._writer, self._timeout, max_in_flight)

    async def get_model(
        self,
        model: str = "",
        model_version: str = "",
        *,
        unit: str = "",
        timeout: float | None = None,
    ) -> ranking_pb2.Model:
        """Describes a model; takes and raises what `RankerClient.get_model` does."""
        request = ranking_pb2.GetModelRequest(model=model, model_version=model_version, unit=unit)
        response: ranking_pb2.GetModelResponse = await self._call(self._get_model, request, timeout)
        return response.model

    async def list_models(self, *, timeout: float | None = None) -> ModelList:
        """Describes every model that the server holds; raises as `rank` does."""
        request = ranking_pb2.ListModelsRequest()
        response: ranking_pb2.ListModelsResponse = await self._call(
            self._list_models, request, timeout
        )
        return ModelList.from_response(response)

    async def wait_ready(self, timeout: float = 10.0) -> None:
        """Waits for a serving server; takes and raises what `RankerClient.wait_ready` does."""
        end = time.monotonic() + checked_timeout(timeout)
        for check in self._checks:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineError(f"{self._target} is not serving after {timeout:g} s")
                try:
                    with self._as_ranker_error():
                        answer = await check(
                            health_pb2.HealthCheckRequest(), timeout=left, wait_for_ready=True
                        )
                except grpc.RpcError as error:
                    reason = from_rpc_error(error)
                    if not isinstance(reason, UnavailableError | DeadlineError):
                        raise reason from error
                else:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        break
                await asyncio.sleep(HEALTH_INTERVAL)

    async def close(self) -> None:
        """Closes the connections, as `RankerClient.close` does."""
        self._closed = True
        for channel in self._channels:
            await channel.close(grace=None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    @contextmanager
    def _as_ranker_error(self) -> Iterator[None]:
        """What a closed channel raises becomes an error of ours."""
        try:
            yield
        except grpc.aio.UsageError as error:
            if not self._closed:
                raise
            raise UnavailableError(CLOSED) from error
        except asyncio.CancelledError as error:
            # That of a call which the channel has cancelled, unless it is the task's own.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CancelledError("the client was closed before the answer came") from error

    async def _ranked(self, request: bytes, deadline: float) -> Ranking:
        left = deadline - time.monotonic()
        response: ranking_pb2.RankResponse = await self._call(self._rank, request, left)
        return Ranking.from_response(response)

    async def _call(
        self,
        methods: Iterator[grpc.aio.UnaryUnaryMultiCallable[Any, Any]],
        request: object,
        timeout: float | None,
    ) -> Any:
        left = checked_timeout(self._timeout if timeout is None else timeout)
        deadline = time.monotonic() + left
        attempt, before = 0, None
        while True:
            try:
                with self._as_ranker_error():
                    return await next(methods)(request, timeout=left)
            except grpc.RpcError as error:
                reason = from_rpc_error(error)
                pause = pause_before_retry(reason, attempt, deadline - time.monotonic())
                if pause is None:
                    raise with_earlier(reason, before) from error
                before = reason
            await asyncio.sleep(pause)
            left = deadline - time.monotonic()
            attempt += 1
