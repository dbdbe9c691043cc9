"""The client for threads."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker.client import channel as wire
from ranker.client.model_list import ModelList
from ranker.client.question import Question, Writer
from ranker.client.ranking import Ranking
from ranker.client.request import RankOptions, checked_timeout
from ranker.client.retry import pause_before_retry, with_earlier
from ranker.client.stream import RankStream
from ranker.client.tls import Tls
from ranker.errors import DeadlineError, UnavailableError
from ranker.frames import Features
from ranker.rpc_error import from_rpc_error
from ranker.v1 import ranking_pb2

HEALTH_INTERVAL = 0.05
"""Seconds between two questions of `wait_ready` to a server that isn't."""

CLOSED = "the client is closed"
"""What a call says that comes too late."""


class RankerClient:
    """Ranks candidate lists on a server. Thread-safe; keep it for as long as the server.

    Retries within the deadline what met no server, or an overloaded one: see
    `ranker.client.channel` for when, and why that is safe.
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
        """Connects when first needed.

        Args:
            target: the server, in gRPC's notation: `host:port`, where requests go
                to all addresses of the host in turn; or `unix:path`, `ipv4:a:1,b:2`.
            channels: how many connections to open to each address. Several
                reach several processes of a server that share its port.
            timeout: the seconds that a call may take, unless it says otherwise.
            watch_health: leave a server that says it drains. Not behind a proxy:
                it watches its servers itself, and what we saw would be one of them.
            tls: how the server is known, and this client by it; None: plain HTTP/2.

        Raises:
            OSError: a file that `tls` names can't be read.
        """
        self._target = target
        self._timeout = timeout
        self._closed = False
        self._channels = [
            wire.connect(grpc, target, wire.options(watch_health), tls) for _ in range(channels)
        ]
        if not self._channels:
            raise ValueError(f"channels: expected at least 1, got {channels}")
        # next() on a cycle is atomic, so threads share them without a lock.
        self._rank = itertools.cycle([c.unary_unary(*wire.RANK) for c in self._channels])
        self._stream = itertools.cycle([c.stream_stream(*wire.RANK_STREAM) for c in self._channels])
        self._get_model = itertools.repeat(self._channels[0].unary_unary(*wire.GET_MODEL))
        self._list_models = itertools.repeat(self._channels[0].unary_unary(*wire.LIST_MODELS))
        # Made here: where the channel is closed, gRPC 1.85 crashes as it makes them.
        self._checks = [health_pb2_grpc.HealthStub(c).Check for c in self._channels]
        self._writer = Writer(
            lambda model, version, unit, left: self.get_model(
                model, version, unit=unit, timeout=left
            )
        )

    def rank(
        self, features: Features, *, timeout: float | None = None, **options: Unpack[RankOptions]
    ) -> Ranking:
        """Ranks one candidate list.

        Args:
            features: numbers [candidates, features] of any real dtype and layout;
                NaN is a missing value. C-contiguous float32 is sent as it is.
                Or a data frame of pandas, polars, pyarrow or whatever else speaks
                Arrow: its columns are told by their names, and may hold categories
                by their values; the client then asks for the model, once per
                version (`ranker.client.question`).
            timeout: the seconds that the call may take, all that it takes
                included; None for the client's own.
            **options: see `RankOptions`.

        Raises:
            RankerError: of the class that says what went wrong.
        """
        deadline = time.monotonic() + checked_timeout(self._timeout if timeout is None else timeout)
        question = Question(features, options)
        request, known = self._writer.write(question, deadline)
        ranking = self._ranked(request, deadline)
        if (other := self._writer.other(question, known, ranking, deadline)) is not None:
            answer = self._ranked(question.written_to(other), deadline)
            ranking = replace(answer, arm=ranking.arm)  # which chose the version
        return ranking

    def stream(self, *, max_in_flight: int = 64) -> RankStream:
        """Opens a stream, which costs less per request than `rank`. See `RankStream`.

        Args:
            max_in_flight: how many of its requests may wait for their results, 1 or more;
                one more waits until it may be sent.

        Raises:
            ValueError: `max_in_flight` is less than 1.
            UnavailableError: the client is closed.
        """
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight: expected at least 1, got {max_in_flight}")
        with self._as_ranker_error():
            return RankStream(next(self._stream), self._writer, self._timeout, max_in_flight)

    def get_model(
        self,
        model: str = "",
        model_version: str = "",
        *,
        unit: str = "",
        timeout: float | None = None,
    ) -> ranking_pb2.Model:
        """Describes a model: its features, what its scores are, how it is scored.

        Args:
            model: its name; by default the server's default.
            model_version: its version, or `@` and a label; by default the model's default.
            unit: whose version to describe, where none is named and the traffic is split.
            timeout: as for `rank`.

        Raises:
            NotFoundError: the server has no such model.
            RankerError: of the class that says what else went wrong.
        """
        request = ranking_pb2.GetModelRequest(model=model, model_version=model_version, unit=unit)
        response: ranking_pb2.GetModelResponse = self._call(self._get_model, request, timeout)
        return response.model

    def list_models(self, *, timeout: float | None = None) -> ModelList:
        """Describes every model that the server holds; raises as `rank` does."""
        request = ranking_pb2.ListModelsRequest()
        response: ranking_pb2.ListModelsResponse = self._call(self._list_models, request, timeout)
        return ModelList.from_response(response)

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Waits until a server has said over every connection that it is serving.

        Args:
            timeout: the seconds to wait at most.

        Raises:
            DeadlineError: none did in time.
            RankerError: the server has no health service, for example.
        """
        end = time.monotonic() + checked_timeout(timeout)
        for check in self._checks:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineError(f"{self._target} is not serving after {timeout:g} s")
                try:
                    with self._as_ranker_error():
                        answer = check(
                            health_pb2.HealthCheckRequest(), timeout=left, wait_for_ready=True
                        )
                except grpc.RpcError as error:
                    reason = from_rpc_error(error)
                    if not isinstance(reason, UnavailableError | DeadlineError):
                        raise reason from error
                else:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        break
                time.sleep(HEALTH_INTERVAL)

    def close(self) -> None:
        """Closes the connections.

        Calls in flight are cancelled (`CancelledError`), later ones end with `UnavailableError`.
        An open stream breaks: its requests, those in flight and later ones, are cancelled.
        """
        self._closed = True
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @contextmanager
    def _as_ranker_error(self) -> Iterator[None]:
        """What a closed channel raises becomes an error of ours."""
        try:
            yield
        except ValueError as error:
            if not self._closed:
                raise
            raise UnavailableError(CLOSED) from error

    def _ranked(self, request: bytes, deadline: float) -> Ranking:
        left = deadline - time.monotonic()
        response: ranking_pb2.RankResponse = self._call(self._rank, request, left)
        return Ranking.from_response(response)

    def _call(
        self,
        methods: Iterator[grpc.UnaryUnaryMultiCallable[Any, Any]],
        request: object,
        timeout: float | None,
    ) -> Any:
        left = checked_timeout(self._timeout if timeout is None else timeout)
        deadline = time.monotonic() + left
        attempt, before = 0, None
        while True:
            try:
                with self._as_ranker_error():
                    return next(methods)(request, timeout=left)
            except grpc.RpcError as error:
                reason = from_rpc_error(error)
                if self._closed:
                    raise reason from error
                pause = pause_before_retry(reason, attempt, deadline - time.monotonic())
                if pause is None:
                    raise with_earlier(reason, before) from error
                before = reason
            time.sleep(pause)
            left = deadline - time.monotonic()
            attempt += 1
