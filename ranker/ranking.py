"""One candidate list on its way: decode, admit, (batch, score,) order, encode."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from exporters.recorder import Recorder
from ranker.catalogue import Catalogue
from ranker.dispatcher import Dispatcher, ScoringJob
from ranker.engine.api import Scores
from ranker.errors import InternalError, RankerError
from ranker.incident import incident
from ranker.order import best_first
from ranker.v1 import ranking_pb2 as pb
from ranker.wire import read_candidates, write_response

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
        request: what is asked.
        arrived: when it came, on the `time.monotonic` clock.
        deadline: when its caller stops waiting, on the same clock.
        answered: called once with the encoded RankResponse, on whichever
            thread scored the list.
        refused: called once instead, if the list is dropped after `start`.
        traceparent: the caller's W3C trace context, if it sent one.
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
    )

    def __init__(
        self,
        resources: Resources,
        request: pb.RankRequest,
        arrived: float,
        deadline: float,
        answered: Callable[[Ranking, bytes], None],
        refused: Callable[[Ranking, RankerError], None],
        traceparent: str | None = None,
    ) -> None:
        self.request = request
        self.arrived = arrived
        self.deadline = deadline
        self._resources = resources
        self._answered = answered
        self._refused = refused
        self._traceparent = traceparent
        self._model = -1
        self._job: ScoringJob | None = None

    def start(self) -> None:
        """Decodes the list and queues it; the answer follows from the dispatcher.

        Raises:
            RankerError: the request is invalid, or is refused now.
        """
        resources, request = self._resources, self.request
        try:
            self._model = resources.catalogue.find(request.model, request.model_version)
            resources.recorder.request_arrived(self._model, self.deadline - self.arrived)
            features = resources.catalogue.models[self._model].features
            rows = read_candidates(request, features, resources.max_request_rows)
            self._job = ScoringJob(
                self._model, rows, self.arrived, self.deadline, self._scored, self._dropped
            )
            resources.dispatcher.submit(self._job)
        except RankerError as error:
            self._record(error.code)
            raise

    def cancel(self) -> None:
        """Nobody waits for the answer any more; saves the scoring, if there is time."""
        if self._job is not None:
            self._job.cancelled = True

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
            self._dropped(
                InternalError(incident(logger, "answering failed", error, self._traceparent))
            )
            return
        self._record(grpc.StatusCode.OK)
        self._answered(self, message)

    def _dropped(self, error: RankerError) -> None:
        self._record(error.code)
        self._refused(self, error)

    def _record(self, code: grpc.StatusCode) -> None:
        self._resources.recorder.request_finished(
            self._model,
            code.value[0],
            0 if self._job is None else self._job.rows,
            time.monotonic() - self.arrived,
            self._traceparent,
        )
