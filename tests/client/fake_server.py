"""A small server that speaks `ranker.v1` by plain grpc, and fails on command."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_status import rpc_status
from numpy.typing import NDArray

from ranker.errors import OverloadedError, RankerError
from ranker.status import to_status
from ranker.v1 import ranking_pb2 as pb
from tests.waiting import PATIENCE

FEATURES = ("relevance", "freshness", "reader_age")

Step = Callable[[grpc.ServicerContext], None]
Action = Callable[[Any], Any]
Stream = Callable[[Iterator[pb.RankRequest], grpc.ServicerContext], Iterator[pb.RankResponse]]


@dataclass(frozen=True)
class Attempt:
    """One RPC that reached the server."""

    request: pb.RankRequest
    peer: str
    seconds_left: float


class FakeServer:
    """Scores a candidate by its first column, and explains that by each column itself.

    Attributes:
        attempts: the Rank calls that arrived, retries included.
        steps: what to do before answering the next Rank calls; an empty queue answers.
        stream: how to answer a RankStream.
        streamed: how many requests have come on streams that are held.
        health: a real health service, SERVING from the start.
        models: what it serves; the first one answers requests that name no version.
        generation: how many sets of models it says it has served.
        failure: why it says that it can't serve what it should.
        arms: the label that each unit has; those that are not here have none.
        asked: the GetModel calls that arrived, name and version.
        before_describing: what to do before answering a GetModel, given the version asked for.
    """

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.steps: deque[Step] = deque()
        self.streamed = 0
        self.stream: Stream = lambda requests, _context: map(self.answer, requests)
        # Without threads of their own, watches may lock themselves and the server for good: one
        # that begins holds the health's lock and waits for its call's, one that ends the reverse.
        self.health = health.HealthServicer(experimental_non_blocking=False)
        self.models = [
            pb.Model(name="fake", version="7", num_features=len(FEATURES), feature_names=FEATURES)
        ]
        self.generation = 1
        self.failure = ""
        self.arms: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.before_describing: Callable[[str], object] = lambda _version: None
        self.port = 0
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens; on the port of before, if there was one."""
        self._server = grpc.server(
            ThreadPoolExecutor(32),
            # Without the probe, flow control admits 64 KiB at a time, as in the standard.
            options=[("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)],
        )
        self._server.add_generic_rpc_handlers([self._handlers()])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.health.set("", HealthCheckResponse.SERVING)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def fail(self, error: RankerError, times: int = 1, pushback: str | None = None) -> None:
        """Answers the next Rank calls with an error, as the real server would."""

        def step(context: grpc.ServicerContext) -> None:
            status = rpc_status.to_status(to_status(error))
            trailers = status.trailing_metadata
            if pushback is not None:
                trailers += (("grpc-retry-pushback-ms", pushback),)
            context.abort_with_status(status._replace(trailing_metadata=trailers))

        self.steps.extend([step] * times)

    def hold_streams(self) -> threading.Event:
        """Answers on streams from when the event that is returned is set."""
        go = threading.Event()

        def held(
            requests: Iterator[pb.RankRequest], _context: grpc.ServicerContext
        ) -> Iterator[pb.RankResponse]:
            for request in requests:
                self.streamed += 1
                go.wait(PATIENCE)
                yield self.answer(request)

        self.stream = held
        return go

    def overloaded(self, pushback: str | None, times: int = 1) -> None:
        self.fail(OverloadedError("queue is full", 0.25), times, pushback)

    def answer(self, request: pb.RankRequest) -> pb.RankResponse:
        matrix = request.candidates
        rows = np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.columns)
        version, arm = self._chosen(request)
        order = np.argsort(-rows[:, 0], kind="stable")[: request.top_k or None]
        return pb.RankResponse(
            request_id=request.request_id,
            model=request.model or self.models[0].name,
            model_version=version,
            arm=arm,
            indices=order,
            scores=rows[order, 0],
            candidate_ids=[request.candidate_ids[i] for i in order]
            if request.candidate_ids
            else [],
            timing=pb.ServerTiming(queue_us=1, scoring_us=2, total_us=4),
            explanations=[
                pb.Explanation(bias=0.25, contributions=np.nan_to_num(rows[index]))
                for index in order[: request.explain]
            ],
            explained_feature_names=request.feature_names if request.explain else [],
        )

    def _chosen(self, request: pb.RankRequest | pb.GetModelRequest) -> tuple[str, str]:
        """The version that a request gets, and the label that it is chosen by."""
        version = request.model_version
        label = version[1:] if version.startswith("@") else ""
        if not version:
            label = self.arms.get(request.unit, "")
        for model in self.models:
            if label in model.labels:
                return model.version, label
        return version or self.models[0].version, label

    def _rank(self, request: pb.RankRequest, context: grpc.ServicerContext) -> pb.RankResponse:
        self.attempts.append(Attempt(request, context.peer(), context.time_remaining()))
        if self.steps:
            self.steps.popleft()(context)
        return self.answer(request)

    def _rank_stream(
        self, requests: Iterator[pb.RankRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.RankResponse]:
        yield from self.stream(requests, context)

    def _get_model(
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        self.asked.append((request.model, request.model_version))
        self.before_describing(request.model_version)
        for model in self.models:
            if request.model in ("", model.name) and self._chosen(request)[0] == model.version:
                return pb.GetModelResponse(model=model)
        context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}")
        raise AssertionError  # abort does not return

    def _list_models(
        self, _request: pb.ListModelsRequest, _context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            models=self.models, generation=self.generation, failure=self.failure
        )

    def _handlers(self) -> grpc.GenericRpcHandler:
        def unary(
            behaviour: Callable[..., Any], request: type[Message], response: type[Message]
        ) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(
                behaviour, request.FromString, response.SerializeToString
            )

        return grpc.method_handlers_generic_handler(
            "ranker.v1.RankingService",
            {
                "Rank": unary(self._rank, pb.RankRequest, pb.RankResponse),
                "RankStream": grpc.stream_stream_rpc_method_handler(
                    self._rank_stream, pb.RankRequest.FromString, pb.RankResponse.SerializeToString
                ),
                "GetModel": unary(self._get_model, pb.GetModelRequest, pb.GetModelResponse),
                "ListModels": unary(self._list_models, pb.ListModelsRequest, pb.ListModelsResponse),
            },
        )


def a_list(best: int, rows: int = 5, columns: int = 2) -> NDArray[np.float32]:
    """Features whose best candidate is `best`."""
    features = np.zeros((rows, columns), dtype=np.float32)
    features[best, 0] = 1.0
    return features


def silent(
    requests: Iterator[pb.RankRequest], _context: grpc.ServicerContext
) -> Iterator[pb.RankResponse]:
    """Reads and never answers."""
    for _ in requests:
        yield from ()
