"""One candidate list on its way: decode, admit, (batch, score,) order, encode."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from ranker.engine.api import Scores
from ranker.errors import InternalError, RankerError
from ranker.incident import incident
from ranker.logs import trace_of
from ranker.metrics.recorder import Recorder
from ranker.model.order import best_first
from ranker.serving.catalogue import Catalogue
from ranker.serving.dispatcher import Dispatcher, ScoringJob
from ranker.serving.wire import read_candidates, write_response
from ranker.v1 import ranking_pb2 as pb

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """What every ranking needs.

    Attributes:
        catalogue: the models.
        dispatcher: queues and scores; its engines are the catalogue's, in order.
        recorder: counts requests and their outcomes.
        max_request_rows: the most candidates that one request may have.
    """

    catalogue: Catalogue
    dispatcher: Dispatcher
    recorder: Recorder
    max_request_rows: int


class Ranking:
    """One request and what has become of it so far.

    Args:
        resources: models, queue, counters.
        arrived: when it came, on the `time.monotonic` clock.
        deadline: when its caller stops waiting, on the same clock.
        answered: called once with the encoded RankResponse, on whichever
            thread scored the list.
        refused: called once instead, if the list is dropped after `start`.
        traceparent: the caller's W3C trace context, if it sent one.

    Attributes:
        request: what is asked, from `start` on.
        deadline: may be moved until `start`.
        waited: whether it had to wait for others when it was let in.
    """

    __slots__ = (
        "_answered",
        "_job",
        "_model",
        "_refused",
        "_resources",
        "_traceparent",
        "arrived",
        "deadline",
        "request",
        "waited",
    )

    def __init__(
        self,
        resources: Resources,
        arrived: float,
        deadline: float,
        answered: Callable[[Ranking, bytes], None],
        refused: Callable[[Ranking, RankerError], None],
        traceparent: str | None = None,
    ) -> None:
        self.request = pb.RankRequest()
        self.arrived = arrived
        self.deadline = deadline
        self._resources = resources
        self._answered = answered
        self._refused = refused
        self._traceparent = traceparent
        self._model = -1
        self._job: ScoringJob | None = None
        self.waited = False

    def start(self, request: pb.RankRequest, size: int) -> None:
        """Decodes the list and queues it; the answer follows from the dispatcher.

        Args:
            request: the list.
            size: its bytes on the wire.

        Raises:
            RankerError: the request is invalid, or is refused now; tell `failed`.
        """
        resources = self._resources
        self.request = request
        self._model = resources.catalogue.find(request.model, request.model_version)
        features = resources.catalogue.models[self._model].features
        rows = read_candidates(request, features, resources.max_request_rows)
        job = self._job = ScoringJob(
            self._model,
            rows,
            max(size, rows.nbytes),  # the rows are part of the message, or made from it
            self.arrived,
            self.deadline,
            self._scored,
            self._dropped,
        )
        resources.dispatcher.submit(job)
        self.waited = job.waited

    def failed(self, error: Exception) -> None:
        """Puts it on record that the request was refused before or by `start`."""
        self._end(error.code if isinstance(error, RankerError) else grpc.StatusCode.INTERNAL)

    def closed(self, code: grpc.StatusCode) -> None:
        """Its call has ended, so that nobody waits any more; saves the scoring, if there is time.

        Args:
            code: how the call ended.
        """
        job = self._job  # which the engine's thread may take away at any moment
        if job is None:
            return
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            job.deadline = -math.inf  # it has passed, even if our own clock is behind
        else:
            job.cancelled = True

    def _scored(self, scores: Scores, queued: float, scoring: float) -> None:
        request = self.request
        try:
            model = self._resources.catalogue.models[self._model]
            order = best_first(scores, request.top_k)
            total = time.monotonic() - self.arrived
            message = write_response(
                request,
                model.name,
                model.version,
                order,
                scores[order],
                (queued, scoring, total),
            )
        except Exception as error:  # a bug here must not spoil the rest of the batch
            failure = incident(logger, "answering failed", error, self._traceparent)
            self._refuse(InternalError(failure))
            return
        self._end(grpc.StatusCode.OK)
        self._answered(self, message)

    def _dropped(self, error: RankerError) -> None:
        if self._traceparent is not None and isinstance(error, InternalError):
            # The incident is the whole batch's; this ties the trace to it.
            logger.error("request lost: %s", error.message, extra=trace_of(self._traceparent))
        self._refuse(error)

    def _refuse(self, error: RankerError) -> None:
        self._end(error.code)
        self._refused(self, error)

    def _end(self, code: grpc.StatusCode) -> None:
        self._resources.recorder.request_finished(
            self._model,
            code.value[0],
            0 if self._job is None else self._job.rows,
            self.deadline - self.arrived,
            time.monotonic() - self.arrived,
            self._traceparent,
        )
        self._job = None  # it refers to us: the cycle would keep its rows until it is collected
