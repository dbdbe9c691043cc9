"""What each RPC of `ranker.v1.RankingService` does."""

from __future__ import annotations

import threading
import time
from typing import cast

import grpc

from ranker.errors import InvalidRequestError, RankerError, UnavailableError
from ranker.model import Model
from ranker.rpc import Call, Handler, Method, traceparent
from ranker.serving.catalogue import Catalogue
from ranker.serving.task import Ranking, Resources
from ranker.serving.wire import read_message
from ranker.transport.respond import Respond
from ranker.v1 import ranking_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RankingService"].full_name

STREAM_IN_FLIGHT = 64
"""Requests of one stream that may wait for answers; the next stays unread till one has its."""


_IN_TIME = {grpc.StatusCode.OK: True, grpc.StatusCode.DEADLINE_EXCEEDED: False}
"""What the end of a call tells of its deadline, if anything."""


class RankingService:
    """All of the service's methods, over one set of resources."""

    def __init__(self, resources: Resources) -> None:
        self._dispatcher = resources.dispatcher
        self._rank = RankHandler(resources)
        self._streams = RankStreamHandler(resources)
        self._directory = Directory(resources.catalogue)

    def methods(self) -> dict[str, Method]:
        """The method table, for a transport."""
        return {
            f"/{SERVICE}/Rank": Method(self._rank),
            f"/{SERVICE}/RankStream": Method(
                self._streams, request_streaming=True, response_streaming=True
            ),
            f"/{SERVICE}/GetModel": Method(Respond(self._directory.get_model)),
            f"/{SERVICE}/ListModels": Method(Respond(self._directory.list_models)),
        }

    def drain(self) -> None:
        """Refuses new requests; ends streams once they have their answers. On the loop's thread."""
        self._dispatcher.draining = True
        self._streams.drain()


class RankHandler(Handler):
    """`Rank`: one list, within the call's deadline."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def opened(self, call: Call) -> None:
        """Refuses the list unread if none that came lately would be answered in its time."""
        try:
            self._resources.dispatcher.check(call.deadline)
        except RankerError as error:
            self._ranking(call).failed(error)
            raise

    def message(self, call: Call, data: bytes) -> bool:
        """Decodes and queues the list; the answer follows from the dispatcher."""
        ranking = self._ranking(call)
        try:
            ranking.start(read_message(pb.RankRequest, data), len(data))
        except Exception as error:
            ranking.failed(error)
            raise
        call.tag = ranking
        return True

    def closed(self, call: Call) -> None:
        """Takes the list out of the queue, if its caller has gone before it was scored."""
        ranking = call.tag
        if not isinstance(ranking, Ranking):
            return
        ranking.closed(call.code)
        if ranking.waited and call.code in _IN_TIME:
            self._resources.dispatcher.ended(in_time=_IN_TIME[call.code])

    def _ranking(self, call: Call) -> Ranking:
        return Ranking(
            self._resources,
            call.arrived,
            call.deadline,
            answered=lambda _, message: call.finish(message),
            refused=lambda _, error: call.fail(error),
            traceparent=traceparent(call.metadata),
        )


class RankStreamHandler(Handler):
    """`RankStream`: many lists over one call, each with its own deadline and status."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._open: set[_Stream] = set()

    def opened(self, call: Call) -> None:
        """Takes no new streams while the server drains."""
        if self._resources.dispatcher.draining:
            self._resources.dispatcher.last_asked = time.monotonic()
            raise UnavailableError("draining: open the stream elsewhere")
        stream = call.tag = _Stream(call)
        self._open.add(stream)

    def message(self, call: Call, data: bytes) -> bool:
        """Decodes and queues one list, or answers with what is wrong with it."""
        return cast("_Stream", call.tag).receive(self._resources, data)

    def half_closed(self, call: Call) -> None:
        """Ends the call once everything is answered."""
        if isinstance(call.tag, _Stream):
            call.tag.end()
        else:  # a transport may say that a call has opened only with its first message
            call.finish()

    def closed(self, call: Call) -> None:
        """Takes what is unanswered out of the queue."""
        if isinstance(call.tag, _Stream):
            self._open.discard(call.tag)
            call.tag.closed()

    def drain(self) -> None:
        """Refuses further requests, and ends each stream once it has its answers."""
        for stream in list(self._open):
            stream.drain()


class _Stream:
    """The lists of one call that wait for their answers.

    Answers come from the loop's thread or the engine's, hence the lock.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._traceparent = traceparent(call.metadata)
        self._lock = threading.Lock()
        self._waiting: dict[str, Ranking] = {}
        self._held = False  # the transport waits for `resume`
        self._ended = False  # the caller will send no more
        self._draining = False  # the server will take no more

    def receive(self, resources: Resources, data: bytes) -> bool:
        arrived = time.monotonic()
        request_id = ""
        ranking = Ranking(
            resources,
            arrived,
            self._call.deadline,
            answered=self._answer,
            refused=self._refuse,
            traceparent=self._traceparent,
        )
        try:
            request = read_message(pb.RankRequest, data)
            request_id = request.request_id
            if request.deadline_ms:
                ranking.deadline = min(ranking.deadline, arrived + request.deadline_ms / 1e3)
            self._expect(resources, request_id, ranking)
            try:
                ranking.start(request, len(data))
            except Exception:
                self._forget(request_id)
                raise
        except Exception as error:
            ranking.failed(error)
            if not isinstance(error, RankerError):
                raise
            self._call.send(_refusal(request_id, error))
        with self._lock:
            self._held = len(self._waiting) >= STREAM_IN_FLIGHT
            return not self._held

    def end(self) -> None:
        with self._lock:
            self._ended = True
            finished = not self._waiting
        if finished:
            self._close()

    def drain(self) -> None:
        self._draining = True
        self.end()

    def _close(self) -> None:
        if self._draining:
            self._call.fail(UnavailableError("draining: open the stream again, elsewhere"))
        else:
            self._call.finish()

    def closed(self) -> None:
        with self._lock:
            waiting = list(self._waiting.values())
        for ranking in waiting:
            ranking.closed(self._call.code)

    def _expect(self, resources: Resources, request_id: str, ranking: Ranking) -> None:
        if self._draining:
            resources.dispatcher.last_asked = time.monotonic()
            resources.recorder.request_shed(-1, "draining")
            raise UnavailableError("draining: send it again, elsewhere")
        if not request_id:
            raise InvalidRequestError("request_id", "a stream's requests need one, got none")
        with self._lock:
            if request_id in self._waiting:
                raise InvalidRequestError(
                    "request_id", f"{request_id!r} is still waiting for its answer on this stream"
                )
            self._waiting[request_id] = ranking

    def _forget(self, request_id: str) -> None:
        with self._lock:
            del self._waiting[request_id]

    def _answer(self, ranking: Ranking, message: bytes) -> None:
        with self._lock:
            del self._waiting[ranking.request.request_id]
            resume, self._held = self._held, False
            finished = self._ended and not self._waiting
        self._call.send(message)
        if finished:
            self._close()
        elif resume:
            self._call.resume()

    def _refuse(self, ranking: Ranking, error: RankerError) -> None:
        self._answer(ranking, _refusal(ranking.request.request_id, error))


class Directory:
    """`GetModel` and `ListModels`: what the server holds."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._models = [
            describe(model, is_default=index == 0) for index, model in enumerate(catalogue.models)
        ]
        self._find = catalogue.find

    def get_model(self, data: bytes) -> bytes:
        """One model's description."""
        request = read_message(pb.GetModelRequest, data)
        model = self._models[self._find(request.model, request.model_version)]
        return pb.GetModelResponse(model=model).SerializeToString()

    def list_models(self, data: bytes) -> bytes:
        """Every model's description, the default first."""
        read_message(pb.ListModelsRequest, data)
        return pb.ListModelsResponse(models=self._models).SerializeToString()


def describe(model: Model, *, is_default: bool) -> pb.Model:
    """A model as its callers need to know it."""
    metadata = model.metadata
    return pb.Model(
        name=model.name,
        version=model.version,
        num_features=model.features.num_features,
        feature_names=model.features.names,
        required_feature_names=model.features.required,
        output=metadata.output,
        objective=metadata.objective,
        num_trees=metadata.trees,
        max_depth=metadata.depth,
        engine=model.engine_name,
        engine_reason=model.engine_reason,
        is_default=is_default,
    )


def _refusal(request_id: str, error: RankerError) -> bytes:
    """The answer to a stream's request that went wrong."""
    status = error.status()
    return pb.RankResponse(
        request_id=request_id,
        status=pb.Status(code=status.code, message=status.message, details=status.details),
    ).SerializeToString()
