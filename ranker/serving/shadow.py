"""Shadows: versions that score lists too which others have ranked, so that the two are compared.

A list is noted once its answer has left, as long as there is room for it; else it is dropped. It
is scored on the loop, when a turn has found nothing to read and nothing to score: in steps so short
that a request which arrives meanwhile hardly waits. On a thread it would have the same core, and
take the interpreter's lock at moments that nobody chooses.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Rows, Scores
from ranker.incident import incident
from ranker.metrics.recorder import Recorder
from ranker.model.agreement import overlap, score_shift, tau_b
from ranker.model.features import ColumnPlan
from ranker.serving.batcher import Batch
from ranker.serving.generation import Generation
from ranker.serving.served_model import ServedModel
from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)

STEP_SECONDS = 0.00025
"""What a step may take by prediction."""

FIXED_COSTS = 2.0
"""Or so many times the fixed cost of a batch, if that is more; else most of it would be that."""

BEST = 10
"""Of how many of the best candidates the overlap is."""

MOST_COMPARED = 512
"""Of a list with more candidates every second one is compared, or every third, and so on: so many
take about as long as a step may.
"""

LIST_BYTES = 1024
"""What a list takes that waits, beside its numbers."""


class Shadows:
    """Scores lists with the shadows of the models that have ranked them.

    For the loop's thread alone.

    Args:
        recorder: where the time is counted.
        max_bytes: what lists that wait may hold.
        longest_batch: seconds that the loop may be kept from reading; see `Transport`.
        clock: in seconds.

    Attributes:
        pairs: by model, those that have a shadow.
        waiting: lists to be scored, the oldest first.
    """

    def __init__(
        self,
        recorder: Recorder,
        max_bytes: int,
        longest_batch: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pairs: dict[ServedModel, Pair] = {}
        self.waiting: deque[WaitingList] = deque()
        self._recorder = recorder
        self._max_bytes = max_bytes
        self._bytes = 0
        self._seconds = min(STEP_SECONDS, longest_batch)
        self._clock = clock

    def serve(self, generation: Generation) -> None:
        """Takes the shadows of another generation; what waits for those of the last is dropped."""
        self.stop()
        for served in generation.models:
            shadow = generation.shadow(served)
            if shadow is not None:
                in_sample = generation.routes[served.name].in_sample
                self.pairs[served] = Pair(served, shadow, in_sample)

    def stop(self) -> None:
        """Drops what waits, and takes no more."""
        self.drop("stopped")
        self.pairs.clear()

    def drop(self, reason: str) -> None:
        """Drops what waits, for one of `catalogue.SHADOW_DROPPED_REASON`."""
        for each in self.waiting:
            each.pair.metrics.dropped(reason)
        self.waiting.clear()
        self._bytes = 0

    def on_answered(self, batch: Batch[RankTask], scores: Scores) -> None:
        """Notes the lists of a batch that have been answered, those that are in the sample.

        Args:
            batch: lists of one model.
            scores: float32 [batch.rows]; of a list that took several batches `task.scores` has all.
        """
        pair = self.pairs.get(batch.pieces[0][0].served)
        if pair is None:
            return
        at = 0
        for task, start, stop in batch.pieces:
            part = scores[at : at + stop - start]
            at += stop - start
            if stop == task.rows and not task.cancelled and pair.in_sample(task.unit):
                self._note(pair, task, part if task.scores is None else task.scores)

    def step(self) -> None:
        """Scores a piece of the list that has waited longest, or compares its scores."""
        began = self._clock()
        first = self.waiting[0]
        try:
            if first.go_on(self._seconds, self._clock):
                self._leave(first)
        except Exception as error:  # a bug in a shadow must not end the loop
            self._leave(first)
            first.pair.failed(error)
        self._recorder.shadow_worked(self._clock() - began)

    def _note(self, pair: Pair, task: RankTask, scores: Scores) -> None:
        if pair.obstacle:
            pair.metrics.dropped("columns")
            return
        waiting = WaitingList(pair, task, scores)
        if self._bytes + waiting.size > self._max_bytes:
            pair.metrics.dropped("busy")
            return
        self._bytes += waiting.size
        self.waiting.append(waiting)

    def _leave(self, first: WaitingList) -> None:
        self.waiting.popleft()
        self._bytes -= first.size


class Pair:
    """A model and its shadow.

    Args:
        served: the model.
        shadow: its shadow.
        in_sample: which units' lists are compared; None: all.

    Attributes:
        shadow: likewise.
        in_sample: likewise, called for each list.
        metrics: where it is recorded how they agree.
        obstacle: why they can't be compared; empty: they can.
    """

    def __init__(
        self, served: ServedModel, shadow: ServedModel, in_sample: Callable[[str], bool] | None
    ) -> None:
        self.shadow = shadow
        self.in_sample = in_sample or (lambda unit: True)  # noqa: ARG005
        self.metrics = served.metrics.shadow(shadow.version)
        self.obstacle = _obstacle(served, shadow)
        self._columns = None if self.obstacle else shadow.features.columns_in(served.features)
        self._name = f"{shadow}, the shadow of {served}"
        self._has_failed = False
        if self.obstacle:
            logger.warning("%s, scores nothing: %s", self._name, self.obstacle)

    def rows(self, rows: Rows) -> Rows:
        """Rows of the model as the shadow expects them."""
        return rows if self._columns is None else rows.take(self._columns, axis=1)

    def failed(self, error: Exception) -> None:
        """Counts a list that could not be scored; the first one is logged."""
        self.metrics.dropped("failed")
        if not self._has_failed:
            self._has_failed = True
            incident(
                logger, f"{self._name}, failed; if it does so again, that is only counted", error
            )


class WaitingList:
    """A list that has been answered, until its shadow has scored it.

    Keeps of a task what scoring takes, and neither the call nor ids.

    Args:
        pair: the model that has ranked it, and the shadow.
        task: the list.
        scores: float32 [task.rows], the model's.

    Attributes:
        pair: likewise.
        size: the bytes that it holds.
    """

    __slots__ = (
        "_candidates",
        "_context",
        "_others",
        "_plan",
        "_scored",
        "_scores",
        "pair",
        "size",
    )

    def __init__(self, pair: Pair, task: RankTask, scores: Scores) -> None:
        self.pair = pair
        self._candidates: Rows = task.candidates
        self._plan: ColumnPlan | None = task.plan
        self._context: NDArray[np.float32] = task.context
        self._scores = scores.copy()  # of the whole batch otherwise
        self._others = np.empty_like(self._scores)
        self._scored = 0
        self.size = self._candidates.nbytes + self._context.nbytes + 2 * scores.nbytes + LIST_BYTES

    def go_on(self, seconds: float, clock: Callable[[], float]) -> bool:
        """Scores as many rows as are predicted to take so long; once it has all, compares.

        Returns:
            Whether it is done.
        """
        start = self._scored
        if start == len(self._scores):
            self._compare()
            return True
        batcher = self.pair.shadow.batcher
        rows = batcher.rows_for(max(seconds, FIXED_COSTS * batcher.cost.fixed))
        stop = min(start + rows, len(self._scores))
        piece = self._candidates[start:stop]
        if self._plan is not None:
            piece = self._plan.rows(piece, self._context)
        piece = self.pair.rows(piece)
        began = clock()
        self._others[start:stop] = self.pair.shadow.engine.score([piece])
        batcher.cost.observe(stop - start, clock() - began)
        self._scored = stop
        return False

    def _compare(self) -> None:
        step = -(-len(self._scores) // MOST_COMPARED)
        scores, others = self._scores[::step], self._others[::step]
        self.pair.metrics.compared(
            overlap(self._scores, self._others, BEST),
            tau_b(scores, others),
            score_shift(scores, others),
        )


def _obstacle(served: ServedModel, shadow: ServedModel) -> str:
    """Why rows of a model can't be scored by its shadow; empty if they can."""
    ours, theirs = served.features, shadow.features
    if not (ours.names and theirs.names):
        if ours.num_features == theirs.num_features:
            return ""
        return f"it has {theirs.num_features} features, and requests have {ours.num_features}"
    known, coded = shadow.model.metadata.categories, served.model.metadata.categories
    for column, name in enumerate(theirs.names):
        if name not in ours.names:
            return f"requests have no feature {name!r}, since {served} knows none"
        here, there = known.get(column), coded.get(ours.names.index(name))
        if here is not None and there is not None and here.values != there.values:
            return f"the codes of {name!r} stand for other categories"
    return ""
