"""What a worker says of one of its models; see `ranker.metrics.recorder`."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Protocol

from ranker.metrics import catalogue
from ranker.metrics.access_log import AccessLog, LoggedRequest, NamedCaller
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.caller_recorder import CallerRecorder
from ranker.metrics.catalogue import (
    BATCH_SIZES,
    LATENCY_SECONDS,
    ROWS,
    SLACK_SECONDS,
)
from ranker.metrics.layout import EXEMPLAR_CELLS, Name, by_value
from ranker.metrics.metric import Metric
from ranker.metrics.shadow_recorder import ShadowRecorder
from ranker.metrics.totals import ModelTotals, model_totals
from ranker.metrics.trace import parse_traceparent
from ranker.metrics.unit_sample import UnitSample

_OK, _ERROR = range(len(catalogue.OUTCOME.values))

# A histogram's sum comes after its buckets, of which there is one more than bounds.
_LATENCY_SUM = len(LATENCY_SECONDS) + 1
_SLACK_SUM = len(SLACK_SECONDS) + 1
_ROWS_SUM = len(ROWS) + 1
_BATCH_SIZES_SUM = len(BATCH_SIZES) + 1

# A bucket's exemplar stands this long at least: no scraper asks more often.
_EXEMPLAR_SECONDS = 1.0


class EndedRequest(LoggedRequest, Protocol):
    """A ranking request that is over: a unary call, or one message of a stream.

    All times are in seconds, on one clock.
    """

    deadline: float
    """When nobody waits any more."""
    has_deadline: bool
    """Whether its caller has said when it stops waiting."""

    @property
    def caller(self) -> RecordedCaller | None:
        """Who asked, if that has been found out."""


class RecordedCaller(NamedCaller, Protocol):
    """Who asked."""

    @property
    def metrics(self) -> CallerRecorder:
        """Where it is counted what came of it."""


class ModelRecorder:
    """Records what one worker does with one model. Made by a `Recorder`.

    Attributes:
        number: which of the layout's models it is.
    """

    def __init__(
        self,
        aggregates: Aggregates,
        worker: int,
        number: int,
        name: Name,
        access_log: AccessLog | None,
    ) -> None:
        slot = aggregates.slots[worker]
        plan = aggregates.layout.plan
        self._aggregates = aggregates
        self._slot = slot
        self._cells = slot.cells
        self.number = number
        self._name = name
        self._access_log = access_log

        def of_model(metric: Metric) -> range:
            """The places of the metric's children that have this model."""
            return aggregates.layout.of_model(metric, number)

        self._codes = of_model(catalogue.REQUESTS)
        self._durations = of_model(catalogue.REQUEST_DURATION)
        self._exemplars = aggregates.layout.exemplars_of_model(catalogue.REQUEST_DURATION, number)
        [self._candidates] = of_model(catalogue.REQUEST_CANDIDATES)
        [self._slack] = of_model(catalogue.DEADLINE_SLACK)
        [self._no_deadline] = of_model(catalogue.NO_DEADLINE)
        [self._split] = of_model(catalogue.SPLIT_REQUESTS)
        self._units = UnitSample(slot.cells, plan.units[number])
        self._shed = by_value(catalogue.SHED_REASON, of_model(catalogue.SHED))
        self._expired = by_value(catalogue.EXPIRED_REASON, of_model(catalogue.EXPIRED))
        [self._queue] = of_model(catalogue.QUEUE_DURATION)
        [self._scoring] = of_model(catalogue.SCORING_DURATION)
        [self._scored] = of_model(catalogue.CANDIDATES_SCORED)
        [self._batch_rows] = of_model(catalogue.BATCH_ROWS)
        [self._batch_requests] = of_model(catalogue.BATCH_REQUESTS)
        [self._explained] = of_model(catalogue.CANDIDATES_EXPLAINED)
        [self._explanation] = of_model(catalogue.EXPLANATION_DURATION)
        self._loads = of_model(catalogue.MODEL_LOADS)
        [self._load_duration] = of_model(catalogue.MODEL_LOAD_DURATION)
        self._busy = plan.cells[catalogue.ENGINE_BUSY][0]

    def request_ended(self, code: int, request: EndedRequest) -> None:
        """A request is over, with this code.

        All that is counted once per request is counted here, so that it agrees.
        """
        cells = self._cells
        outcome = _ERROR if code else _OK
        cells[self._codes[code]] += 1.0
        seconds = request.ended - request.arrived
        bucket = bisect_left(LATENCY_SECONDS, seconds)
        duration = self._durations[outcome]
        cells[duration + bucket] += 1.0
        cells[duration + _LATENCY_SUM] += seconds
        rows = request.rows
        if rows:
            cells[self._candidates + bisect_left(ROWS, rows)] += 1.0
            cells[self._candidates + _ROWS_SUM] += rows
        if not request.has_deadline:
            cells[self._no_deadline] += 1.0
        else:
            left = request.deadline - request.arrived
            left = left if left > 0.0 else 0.0
            cells[self._slack + bisect_left(SLACK_SECONDS, left)] += 1.0
            cells[self._slack + _SLACK_SUM] += left
        caller = request.caller
        if caller is not None:
            caller.metrics.ended[code] += 1.0
        log = self._access_log
        if log is not None and (code or not log.errors_only):
            traced = log.traced_only
            if traced is not None and traced.left and not code and request.traceparent is None:
                traced.left -= 1.0  # as most are: a call for each costs more than all the traces
            else:
                log.request_ended(code, request, self._name)  # may begin a trace
        if request.traceparent is not None:
            self._remember(outcome, bucket, seconds, request.traceparent)

    def split_served(self, mark: float) -> None:
        """A generation is served that has this model, with the same split as before or another.

        Args:
            mark: tells the split from others; 0: the traffic is not split.
        """
        self._units.start(mark)

    def request_split(self, unit: str) -> None:
        """A split of the traffic has given a ranking request to this model.

        Args:
            unit: for whom is ranked; empty: it was drawn at random.
        """
        self._cells[self._split] += 1.0
        if unit:
            self._units.add(unit)

    def request_shed(self, reason: str) -> None:
        """A ranking request was refused on arrival, for one of `catalogue.SHED_REASON`."""
        self._cells[self._shed[reason]] += 1.0

    def request_expired(self, reason: str) -> None:
        """A ranking request was dropped unscored, for one of `catalogue.EXPIRED_REASON`."""
        self._cells[self._expired[reason]] += 1.0

    def batch_scored(
        self, rows: int, requests: int, queue_seconds: Sequence[float], scoring_seconds: float
    ) -> None:
        """The engine has scored a batch.

        Args:
            rows: the candidates in it.
            requests: the requests that these belong to.
            queue_seconds: how long requests waited, per request that no earlier
                batch has a part of.
            scoring_seconds: how long the engine took.
        """
        cells = self._cells
        queue = self._queue
        for seconds in queue_seconds:
            cells[queue + bisect_left(LATENCY_SECONDS, seconds)] += 1.0
            cells[queue + _LATENCY_SUM] += seconds
        cells[self._scored] += rows
        cells[self._busy] += scoring_seconds
        cells[self._scoring + bisect_left(LATENCY_SECONDS, scoring_seconds)] += 1.0
        cells[self._scoring + _LATENCY_SUM] += scoring_seconds
        cells[self._batch_rows + bisect_left(ROWS, rows)] += 1.0
        cells[self._batch_rows + _ROWS_SUM] += rows
        cells[self._batch_requests + bisect_left(BATCH_SIZES, requests)] += 1.0
        cells[self._batch_requests + _BATCH_SIZES_SUM] += requests

    def candidates_explained(self, rows: int) -> None:
        """The scores of so many candidates have been explained."""
        self._cells[self._explained] += rows

    def list_explained(self, seconds: float) -> None:
        """A list has all of its explanations, so long after its scores."""
        cells = self._cells
        cells[self._explanation + bisect_left(LATENCY_SECONDS, seconds)] += 1.0
        cells[self._explanation + _LATENCY_SUM] += seconds

    def loaded(self, seconds: float) -> None:
        """The model is ready; it took so many seconds, its first batches not included."""
        self._cells[self._load_duration] = seconds
        self._cells[self._loads[_OK]] += 1.0

    def served(self, info: Mapping[str, str]) -> None:
        """This worker serves the model from now on.

        Args:
            info: what to say of it: any of `catalogue.MODEL_INFO`'s texts.

        Raises:
            ValueError: `info` has a key that is not among them.
        """
        self._slot.write_info(catalogue.MODEL_INFO, self.number, info)

    def unloaded(self) -> None:
        """This worker serves the model no more; what was counted of it stays."""
        self._slot.clear_info(catalogue.MODEL_INFO, self.number)

    def shadow(self, version: str) -> ShadowRecorder:
        """Where to record how it and its shadow agree, if that is this version."""
        return ShadowRecorder(self._aggregates, self._slot.index, self.number, version)

    def totals(self) -> ModelTotals:
        """What all workers have counted of this model; not for the path of a request."""
        return model_totals(self._aggregates, self.number)

    def load_failed(self) -> None:
        """The model could not be loaded."""
        self._cells[self._loads[_ERROR]] += 1.0

    def _remember(self, outcome: int, bucket: int, seconds: float, traceparent: str) -> None:
        """Makes a request its bucket's exemplar, if it can be found again and it is time."""
        place = self._exemplars[outcome] + bucket * EXEMPLAR_CELLS
        now = time.time()
        if 0.0 <= now - self._cells[place] < _EXEMPLAR_SECONDS:  # the clock may be set back
            return
        trace = parse_traceparent(traceparent)
        if trace is not None and trace.sampled:
            self._slot.write_exemplar(place, trace.trace_id, seconds, now)
