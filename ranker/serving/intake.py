"""Lets candidate lists in: decodes each, and queues or refuses it."""

from __future__ import annotations

import logging
import math
import time

from ranker.errors import InternalError, OverloadedError, RankerError, UnavailableError
from ranker.incident import incident
from ranker.metrics.model_recorder import ModelRecorder
from ranker.rpc import Callers
from ranker.serving.callers import OFFICE
from ranker.serving.explanations import Explanations
from ranker.serving.generation import Generation
from ranker.serving.paced_refusals import PacedRefusals
from ranker.serving.queue import Queue
from ranker.serving.quotas import CallerQuota, OverQuotaError
from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)


class DrainingError(UnavailableError):
    """The server takes nothing new; what it has is still answered."""

    reason = "draining"

    def __init__(self) -> None:
        super().__init__("the server is draining; ask again, elsewhere")


class Intake:
    """What the RPCs that bring candidate lists have in common.

    Args:
        generation: the models.
        queue: where lists wait.
        explanations: who explains lists, if that is asked for.
        unknown: where to record what names no model that is served, or was not read.
        max_rows: the most candidates that one request may have.
        max_deadline: the most seconds that a request may take, whatever its caller says.

    Attributes:
        generation: likewise; it may be replaced.
        unknown: likewise.
        callers: who may call; None: anybody.
        admission: learns how deadlines turn out.
        refusals: those of callers over their quotas, which may be held back.
        last_asked: when somebody last wanted something, on the `time.monotonic` clock.
        draining: whether nothing new is let in.
    """

    def __init__(
        self,
        generation: Generation,
        queue: Queue[RankTask],
        explanations: Explanations,
        unknown: ModelRecorder,
        *,
        max_rows: int,
        max_deadline: float,
    ) -> None:
        self.generation = generation
        self.unknown = unknown
        self.callers: Callers | None = None
        self.admission = queue.admission
        self.last_asked = -math.inf
        self.refusals = PacedRefusals(self.refuse)
        self._queue = queue
        self._explanations = explanations
        self.draining = False
        self._max_rows = max_rows
        self._max_deadline = max_deadline

    def check_unread(self, task: RankTask) -> bool:
        """Whether to read a list; if not, it is refused, now or soon."""
        try:
            if self.draining:
                self.check_draining()
            quota = None if task.caller is None else task.caller.quota
            if quota is not None:
                now = time.monotonic()
                try:
                    quota.check(now, task.deadline)
                except OverQuotaError as error:
                    self._hold(task, error, quota, now)
                    return False
            queue = self._queue
            if queue.rows and (task.deadline < math.inf or queue.crowded):
                queue.check_unread(task, time.monotonic(), self.generation.count)
        except RankerError as error:
            self.refuse(task, error)
            return False
        return True

    def drain(self) -> None:
        """Lets nothing new in, and answers the refusals that are held back."""
        self.draining = True
        self.refusals.answer(math.inf)

    def check_draining(self) -> None:
        """Raises DrainingError if nothing new is let in."""
        if self.draining:
            self.last_asked = time.monotonic()
            raise DrainingError

    def admit(self, task: RankTask, data: bytes) -> bool:
        """Decodes and queues a list, or refuses it; never raises.

        Args:
            task: is filled with what is asked.
            data: an encoded request.

        Returns:
            Whether to read on. If not, it will be refused, and nothing is to be read before.
        """
        latest = task.arrived + self._max_deadline
        if latest < task.deadline:
            task.deadline = latest
        try:
            task.wire.read(data, task, self.generation, self._max_rows)
            caller = task.caller
            if caller is not None and caller.refusal is not None:  # since its stream was opened
                self.refuse(task, caller.refusal)
                return True
            now = self.last_asked = time.monotonic()
            if caller is not None and caller.quota is not None:
                task.quota = caller.quota
                caller.quota.take(task.rows, now, task.deadline)
            if task.explain:
                self._explanations.admit(task, now)
            self._queue.admit(task, now)
        except OverQuotaError as error:
            assert caller is not None
            assert caller.quota is not None
            task.forget_rows()
            if task.explanations is not None:  # its refusal may be held back for long
                task.explanations.leave(task)
            return not self._hold(task, error, caller.quota, now)
        except RankerError as error:
            self.refuse(task, error)
        except Exception as error:
            what = incident(logger, "reading a request failed", error, task.traceparent)
            self.refuse(task, InternalError(what))
        return True

    def _hold(self, task: RankTask, error: OverQuotaError, quota: CallerQuota, now: float) -> bool:
        """Refuses a list whose caller is over its quota; whether that is held back."""
        # On the office's connection others would wait as well.
        is_office = task.connection().startswith(OFFICE)
        return self.refusals.hold(task, error, now, 0.0 if is_office else quota.refusal_wait(now))

    def refuse(self, task: RankTask, error: RankerError) -> None:
        """Tells a list's caller that it is not let in, and counts why."""
        if isinstance(error, OverloadedError | DrainingError):
            task.metrics.request_shed(error.reason)
        task.forget_rows()
        task.finish(error)
