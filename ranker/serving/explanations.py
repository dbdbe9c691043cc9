"""Explanations: what each feature adds to the scores of a list's best, for callers who ask.

A list that is to be explained is scored as any other. Then it waits here. Its best rows are
explained in short runs, on a thread of its own, and the loop hands a run over only in a turn that
has found nothing to read and nothing to score. So plain lists go first, always; a run that is on
the thread when they come is short, and the thread has the interpreter's lock for moments only. If
plain lists leave no time, lists wait here until their deadlines pass, or are refused as they come.

Lists take turns, run by run, so that one of hundreds of rows does not keep out one of three. Of the
room for them each caller has its share, as it has of the queue.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Contributions, Rows, Scores
from ranker.errors import InternalError, InvalidRequestError, UnsupportedModelError
from ranker.incident import guard, incident
from ranker.metrics.recorder import Recorder
from ranker.model.order import best_first
from ranker.serving.admission import FullShareError, RefusedError, TooLateError
from ranker.serving.batcher import Batch
from ranker.serving.connection_shares import ConnectionShares
from ranker.serving.engine_threads import EngineThreads
from ranker.serving.refusals import expire, refuse
from ranker.serving.served_model import ServedModel
from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)

RUN_SECONDS = 0.001
"""What a run may take by prediction."""

FIXED_COSTS = 2.0
"""Or so many times the fixed cost of a run, if that is more; else most of it would be that."""

RUN_ROWS = 64
"""The most rows of a run, whatever is predicted."""

FIRST_ROWS = 4
"""And of the first ones of a model, of which nothing is known yet."""

MOST_LISTS = 256
"""That may wait, however small they are."""

LOOK_SECONDS = 0.01
"""How often it is looked for lists whose deadline has passed or whose caller has gone."""

_NO_ROWS: Rows = np.empty((0, 0), np.float32)


class FullOfExplanationsError(RefusedError):
    """No more lists may wait to be explained."""

    reason = "explanations"


class Explanations:
    """Explains the best of lists that have been ranked.

    For the loop's thread alone; it has a thread of its own for the work.

    Args:
        recorder: where it is recorded how much waits.
        max_bytes: what all lists that wait may hold.
        call_soon: has the loop's thread call a function, whichever thread asks.

    Attributes:
        lists: those that are to be explained and have not been answered yet, whether they wait to
            be scored or have been.

    Raises:
        RuntimeError: the system doesn't start the thread.
    """

    def __init__(
        self,
        recorder: Recorder,
        max_bytes: int,
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self.lists: dict[RankTask, _Place] = {}
        self._waiting: deque[_Waiting] = deque()  # of them, those that have been scored
        self._run: _Run | None = None  # that is on the thread
        self._recorder = recorder
        self._max_bytes = max_bytes
        self._shares = ConnectionShares(MOST_LISTS, max_bytes)
        self._bytes = self._rows = 0
        self._call_soon = call_soon
        self._thread = EngineThreads(1, "explainer")
        self._look_at = 0.0

    @property
    def ready(self) -> bool:
        """Whether there is a run to hand over."""
        return bool(self._waiting) and self._run is None

    def admit(self, task: RankTask, now: float) -> None:
        """Lets a list in, before it is queued to be scored; it leaves when it is over.

        Args:
            task: a list that is to be explained.
            now: the time.

        Raises:
            UnsupportedModelError: its model can't be explained.
            InvalidRequestError: it asks for more than the server has room for.
            FullOfExplanationsError: too much waits.
            FullShareError: its connection has its share of the room, which gets scarce.
            TooLateError: its explanations are predicted to come after its deadline.
        """
        served, features = task.served, task.served.features.num_features
        if served.model.unexplained:
            raise UnsupportedModelError(served.model.unexplained)
        row = 4 * (3 * features + 4)  # its features, its contributions, and these encoded
        fixed = task.size - task.candidates.nbytes + task.rows * 4
        size = fixed + task.explain * row
        if size > self._max_bytes:
            most = max(self._max_bytes - fixed, 0) // row
            raise InvalidRequestError(
                "explain",
                f"expected at most {most} candidates of {features} features, got {task.explain}",
            )
        wait = self._predict(task.explain)
        in_time = now + wait < task.deadline
        shares, lists, held = self._shares, len(self.lists) + 1, self._bytes + size
        if held > self._max_bytes or lists > MOST_LISTS:
            text = "too many lists wait to be explained; ask again, or without explanations"
            raise FullOfExplanationsError(text, wait, in_time=in_time)
        divided = lists > shares.divided_rows or held > shares.divided_bytes
        if self.lists and divided and not shares.has_room(task.holder_name(), 1, size):
            text = "many lists wait to be explained, and this connection has its share of them; "
            text += "ask again, or without explanations"
            raise FullShareError(text, wait, in_time=in_time)
        if wait and now + wait + served.explaining.predict(task.explain) > task.deadline:
            text = "the deadline can't be met with explanations"
            raise TooLateError(text, wait, in_time=in_time)
        task.explanations = self
        self.lists[task] = place = _Place(task, size)
        if lists > shares.noted_rows or held > shares.noted_bytes:
            shares.take(place)
        self._count(size, task.explain)

    def leave(self, task: RankTask) -> None:
        """A list that was let in is over, or is going to be refused."""
        task.explanations = None
        place = self.lists.pop(task)
        if place.holder:
            self._shares.give_back(place)
        self._count(-place.size, -task.explain)

    def on_scored(self, batch: Batch[RankTask], scores: Scores) -> None:
        """Takes the lists of a batch that are to be explained and have all of their scores.

        Args:
            batch: lists of one model.
            scores: float32 [batch.rows]; of a list that took several batches `task.scores` has all.
        """
        at = 0
        for task, start, stop in batch.pieces:
            part = scores[at : at + stop - start]
            at += stop - start
            if task.explain and stop == task.rows and not task.is_over:
                own = part.copy() if task.scores is None else task.scores
                try:
                    self._waiting.append(_Waiting(task, own, time.monotonic()))
                except Exception as error:  # a bug here must not spoil the rest of the batch
                    what = incident(logger, "taking a list failed", error, task.traceparent)
                    refuse(task, InternalError(what))

    def turn(self, *, spare: bool) -> None:
        """Hands a run over, if there is time to spare, and refuses lists that are too late.

        Args:
            spare: whether there was nothing to read, and there is nothing to score.
        """
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._waiting = deque(each for each in self._waiting if self._still_wanted(each, now))
        if spare and self.ready:
            self._run = run = self._take(now)
            if run is not None:
                self._thread.run(lambda: self._explain(run))

    def close(self) -> None:
        """Ends the thread. Call it when no caller is left."""
        self._thread.close()

    def _predict(self, rows: int) -> float:
        """Seconds until a list of so many rows that comes now has its turns."""
        return sum(
            other.served.explaining.predict(min(other.explain, rows)) for other in self.lists
        )

    def _count(self, size: int, rows: int) -> None:
        self._bytes += size
        self._rows += rows
        self._recorder.explanations_changed(self._rows)

    def _still_wanted(self, waiting: _Waiting, now: float) -> bool:
        """Whether somebody waits for a list's explanations; if not, it is over."""
        task = waiting.task
        if task.cancelled or task.deadline <= now:
            expire(task, "explained")
        return not task.is_over

    def _take(self, now: float) -> _Run | None:
        """The next run: rows of the lists that have waited longest for a turn, of one model."""
        run: _Run | None = None
        room = 0
        unfinished = []
        while self._waiting:
            first = self._waiting[0]
            if run is not None and (not room or first.task.served is not run.served):
                break
            self._waiting.popleft()
            if not self._still_wanted(first, now):
                continue
            if run is None:
                run = _Run(first.task.served)
                room = _room(run.served)
            start = first.taken
            first.taken = stop = min(start + room, len(first.rows))
            room -= stop - start
            run.parts.append((first, start, stop))
            if stop < len(first.rows):
                unfinished.append(first)
        self._waiting.extend(unfinished)
        return run

    def _explain(self, run: _Run) -> None:
        """On the thread."""
        run.explain()
        self._call_soon(self._on_explained)

    def _on_explained(self) -> None:
        """The thread has done a run: answers the lists that have all of their explanations."""
        run, self._run = self._run, None
        assert run is not None
        if isinstance(run.outcome, Exception):
            message = incident(logger, "explaining failed", run.outcome)
            for waiting, _, _ in run.parts:
                refuse(waiting.task, InternalError(message))
            return
        served = run.served
        served.explaining.observe(len(run.outcome), run.seconds)
        served.metrics.candidates_explained(len(run.outcome))
        at = 0
        for waiting, start, stop in run.parts:
            waiting.contributions[start:stop] = run.outcome[at : at + stop - start]
            at += stop - start
            if stop == len(waiting.rows):
                guard(logger, "answering", _answer, waiting)


class _Place:
    """What a list has of the room: one place and some bytes, for `ConnectionShares`."""

    __slots__ = ("_task", "holder", "rows", "size")

    def __init__(self, task: RankTask, size: int) -> None:
        self._task = task
        self.size = size
        self.rows = 1
        self.holder = ""

    def holder_name(self) -> str:
        return self._task.holder_name()


class _Waiting:
    """A list that has been scored, until it is explained.

    Keeps the rows of its best, and neither the others nor the message that brought them.

    Args:
        task: the list.
        scores: float32 [task.rows].
        now: the time.

    Attributes:
        task: likewise.
        scores: likewise.
        rows: those of its best, as the model expects them: float32 [explain, F].
        contributions: of those: float32 [explain, F + 1].
        taken: how many of them are in runs already.
        since: when it was scored.
    """

    __slots__ = ("contributions", "rows", "scores", "since", "taken", "task")

    def __init__(self, task: RankTask, scores: Scores, now: float) -> None:
        self.task = task
        self.scores = scores
        self.rows: Rows = task.rows_at(best_first(scores, task.explain))
        self.contributions: Contributions = np.empty(
            (len(self.rows), self.rows.shape[1] + 1), np.float32
        )
        self.taken = 0
        self.since = now
        task.candidates = _NO_ROWS


class _Run:
    """Rows that are explained by one call, and what came of it."""

    __slots__ = ("outcome", "parts", "seconds", "served")

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        self.parts: list[tuple[_Waiting, int, int]] = []
        self.outcome: NDArray[np.float32] | Exception = np.empty((0, 0), np.float32)
        self.seconds = 0.0

    def explain(self) -> None:
        """Explains them, on whichever thread. Does not raise: `outcome` may be an exception."""
        began = time.thread_time()  # not what it had to wait for a busy loop's core and lock
        try:
            blocks = [waiting.rows[start:stop] for waiting, start, stop in self.parts]
            self.outcome = self.served.model.explainer.explain(blocks)
        except Exception as error:
            self.outcome = error
        self.seconds = time.thread_time() - began


def _room(served: ServedModel) -> int:
    """The rows that a run may have."""
    cost = served.explaining
    if not cost.per_row:
        return FIRST_ROWS
    seconds = max(RUN_SECONDS, FIXED_COSTS * cost.fixed)
    return min(max(1, round((seconds - cost.fixed) / cost.per_row)), RUN_ROWS)


def _answer(waiting: _Waiting) -> None:
    """Answers a list that is explained."""
    task = waiting.task
    if task.is_over:
        return
    task.contributions = waiting.contributions
    task.metrics.list_explained(time.monotonic() - waiting.since)
    try:
        task.finish(task.wire.write(task, waiting.scores))
    except Exception as error:  # a bug here must not spoil the other lists of the run
        what = incident(logger, "answering failed", error, task.traceparent)
        refuse(task, InternalError(what))
