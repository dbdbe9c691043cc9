"""One candidate list on its way, from its message to its answer."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Contributions, Rows, Scores
from ranker.errors import Code, RankerError
from ranker.forwarded_caller import ForwardedCaller
from ranker.model.features import ColumnPlan
from ranker.rpc import Call
from ranker.serving.callers import OFFICE

if TYPE_CHECKING:
    from ranker.metrics.log_entry import ScoredBatch
    from ranker.metrics.model_recorder import ModelRecorder
    from ranker.serving.batcher import Batcher
    from ranker.serving.callers import Caller
    from ranker.serving.explanations import Explanations
    from ranker.serving.generation import Generation
    from ranker.serving.quotas import CallerQuota
    from ranker.serving.served_model import ServedModel
    from ranker.serving.wire_format import WireFormat

_OK = int(Code.OK)
_NO_CONTEXT = np.empty(0, np.float32)
_NO_ROWS = np.empty((0, 0), np.float32)


class Asked(Protocol):
    """What a request says beside its candidates; a RankRequest is one."""

    @property
    def request_id(self) -> str:
        """The caller's own mark."""

    @property
    def model(self) -> str:
        """The model's name; empty: the default."""

    @property
    def model_version(self) -> str:
        """A version, or `@` and a label; empty: what the unit has."""

    @property
    def unit(self) -> str:
        """For whom is ranked; empty: nobody in particular."""

    @property
    def deadline_ms(self) -> int:
        """Within how many milliseconds a stream's list is to be ranked; 0: no limit of its own."""


class RankTask:
    """A candidate list that is to be ranked.

    Decoding fills it, the queue and the dispatcher carry it on, `finish` ends it.
    Times are in seconds, on the `time.monotonic` clock.

    Attributes:
        arrived: when it came.
        deadline: when nobody waits any more, its caller or the server.
        has_deadline: whether its caller has said when it stops waiting.
        traceparent: the caller's W3C trace context, if it sent one; its own, once it is over, if
            it begins a trace.
        caller: who calls, if that has been found out.
        wire: how its request and its answer are written.
        request_id: the caller's own mark.
        request: its encoded request, where the ranking log keeps it; empty: it is not to be logged.
        metrics: where its end is recorded: its model's, once that is known.
        served: the model that ranks it.
        arm: the label that the model was chosen by; empty: none.
        batcher: that model's part of the queue.
        candidates: float32 [rows, columns], as they were sent.
        plan: where these columns and the context go in the model's rows; None: they are
            the model's own.
        context: float32 values that all candidates share.
        rows: how many candidates it has; 0 until they have been read.
        size: the bytes that it holds while it waits.
        unit: for whom is ranked; empty: its caller does not say.
        top_k: how many of the best to answer with; 0 is all.
        explain: how many of the best to explain; 0 is none, and no more than are answered with.
        candidate_ids: one per candidate, or none.
        outputs: what to answer with, in a protocol whose requests say that.
        cancelled: set once nobody wants the answer.
        taken: how many of its rows are in batches already.
        holder: the caller that it is counted for in the queue; empty: none.
        quota: what its caller may take; None: anything.
        waited: whether there was a wait to be predicted when it was let in.
        queued: how long it waited for its first batch.
        scoring: how long its batches were scored.
        batch: the last of them, for whoever logs it; None until it is scored.
        scores: those of the batches so far, if it takes several.
        explanations: who explains it, while it is let in there.
        contributions: of its best, once they are explained: float32 [explain, F + 1].
        ended: when its answer left.
        is_over: whether it has been answered or refused.
    """

    __slots__ = (
        "_caller",
        "arm",
        "arrived",
        "batch",
        "batcher",
        "caller",
        "cancelled",
        "candidate_ids",
        "candidates",
        "context",
        "contributions",
        "deadline",
        "ended",
        "explain",
        "explanations",
        "has_deadline",
        "holder",
        "is_over",
        "metrics",
        "outputs",
        "plan",
        "queued",
        "quota",
        "request",
        "request_id",
        "rows",
        "scores",
        "scoring",
        "served",
        "size",
        "taken",
        "top_k",
        "traceparent",
        "unit",
        "waited",
        "wire",
    )

    candidates: Rows
    served: ServedModel
    batcher: Batcher[Any]
    request: bytes

    def __init__(
        self, caller: Any, arrived: float, call: Call, unknown: ModelRecorder, wire: WireFormat
    ) -> None:
        """Makes a task of which nothing is known yet.

        Args:
            caller: who gets the outcome: a `Call`, or a `Stream`.
            arrived: when it came.
            call: the call that brought it.
            unknown: where to record its end as long as its model is not known.
            wire: how its request and its answer are written.
        """
        self._caller = caller
        self.arrived = arrived
        self.deadline = call.deadline
        self.has_deadline = call.deadline < math.inf
        self.traceparent = call.traceparent
        self.caller: Caller | None = call.caller
        self.quota: CallerQuota | None = None
        self.metrics = unknown
        self.wire = wire
        self.request_id = self.holder = self.arm = self.unit = ""
        self.rows = self.size = self.top_k = self.taken = self.explain = 0
        self.plan: ColumnPlan | None = None
        self.context: NDArray[np.float32] = _NO_CONTEXT
        self.candidate_ids: list[str] = []
        self.outputs: tuple[Any, ...] = ()
        self.cancelled = self.waited = self.is_over = False
        self.queued = self.scoring = self.ended = 0.0
        self.batch: ScoredBatch | None = None
        self.scores: Scores | None = None
        self.explanations: Explanations | None = None
        self.contributions: Contributions | None = None

    def rows_from(self, start: int, stop: int) -> Rows:
        """Some of its rows as the model expects them: float32 [stop - start, num_features]."""
        rows = self.candidates[start:stop]
        return rows if self.plan is None else self.plan.rows(rows, self.context)

    def rows_at(self, positions: NDArray[np.intp]) -> Rows:
        """The rows of some candidates, copied: float32 [len(positions), num_features]."""
        rows = self.candidates[positions]
        return rows if self.plan is None else self.plan.rows(rows, self.context)

    def forget_rows(self) -> None:
        """It is not let in, which its caller may hear later: frees what it holds of its message."""
        self.candidates = _NO_ROWS
        self.candidate_ids = []
        self.request = b""

    def method(self) -> str:
        """The full name of the method that it was sent to."""
        return str(self._caller.method)

    def connection(self) -> str:
        """The connection that it came on."""
        return str(self._caller.peer())

    def peer(self) -> str:
        """Its caller's connection: the one that it came on, or, over HTTP, that to the office.

        For logs and traces. Quotas and shares of the queue go by `connection` and by `caller`.
        """
        connection = self.connection()
        forwarded = self._forwarded(connection)
        return connection if forwarded is None or forwarded.is_office else forwarded.peer

    def holder_name(self) -> str:
        """Whom it is counted for in the queue: its caller, by name, or else its connection."""
        caller = self.caller
        return caller.name if caller is not None and caller.name else self.connection()

    def finish(self, outcome: bytes | RankerError) -> None:
        """Answers the caller, or refuses it; only the first time counts.

        Args:
            outcome: the encoded answer, or why there is none.
        """
        if self.is_over:
            return
        self.is_over = True
        self.ended = time.monotonic()
        if self.explanations is not None:
            self.explanations.leave(self)
        if isinstance(outcome, bytes):
            self.metrics.request_ended(_OK, self)
            self._answer(outcome)
        else:
            self.metrics.request_ended(outcome.code, self)
            self._refuse(outcome)

    def on_read(self, asked: Asked, generation: Generation) -> None:
        """Its message has been decoded, and its candidates have not been looked at yet.

        Args:
            asked: what it says.
            generation: the models that there are.

        Raises:
            NotFoundError: no such model.
            RankerError: it is refused.
        """
        self.request_id = asked.request_id
        version = asked.model_version
        unit = self.unit = asked.unit
        drawn_by = unit
        if not (unit or version) and asked.model in generation.splits:
            forwarded = self._forwarded(self.connection())
            drawn_by = "" if forwarded is None else forwarded.draw
        served, self.arm = generation.find(asked.model, version, drawn_by)
        self.served = served
        self.batcher = served.batcher
        self.metrics = served.metrics
        if self.arm and not version:
            served.metrics.request_split(unit)

    def hurry(self, seconds: float) -> None:
        """Its caller waits no longer than so many seconds from its arrival."""
        self.has_deadline = True
        self.deadline = min(self.deadline, self.arrived + seconds)

    def on_caller_gone(self, code: Code) -> None:
        """Its call has ended, so that nobody waits any more; saves the scoring, if there is time.

        Args:
            code: how the call ended.
        """
        if self.is_over:
            return
        if code is Code.DEADLINE_EXCEEDED:
            # It has passed, even if our own clock is behind.
            self.deadline = min(self.deadline, time.monotonic())
        else:
            self.cancelled = True

    def _forwarded(self, connection: str) -> ForwardedCaller | None:
        """For whom the office asks; None: it is not the office that asks."""
        if not connection.startswith(OFFICE):
            return None
        return ForwardedCaller.read(self._caller.metadata)

    def _answer(self, message: bytes) -> None:
        """Sends the encoded answer to the caller."""
        raise NotImplementedError

    def _refuse(self, error: RankerError) -> None:
        """Tells the caller why there is no ranking."""
        raise NotImplementedError


class UnaryTask(RankTask):
    """The list of a unary call."""

    __slots__ = ()

    def _answer(self, message: bytes) -> None:
        call, self._caller = self._caller, None
        call.finish(message)

    def _refuse(self, error: RankerError) -> None:
        call, self._caller = self._caller, None
        call.fail(error)


class StreamTask(RankTask):
    """A list of a stream."""

    __slots__ = ()

    def on_read(self, asked: Asked, generation: Generation) -> None:
        """Notes its own deadline, too; raises also what `Stream.on_read` raises."""
        self._caller.on_read(self, asked)
        super().on_read(asked, generation)

    def _answer(self, message: bytes) -> None:
        self._caller.answer(self, message)

    def _refuse(self, error: RankerError) -> None:
        self._caller.refuse(self, error)
