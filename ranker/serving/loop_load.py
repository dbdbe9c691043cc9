"""How much of a loop's time its work would take if every turn were a full one.

A turn of the loop has a fixed cost, to wake up and to score a batch, and each list that it answers
adds to it. A server with little to do takes a turn for each list, so it looks busy long before
it is: with more to do it answers more lists in a turn. What a turn costs beyond its share
in a full one is therefore not counted.

A turn that follows a rest takes longer: the loop wakes up, and a long list comes in pieces, each of
which may take a turn before. So what full turns take is learned from turns that follow one another,
and a turn without lists is work for the next that has some.

On grpc.aio a list has work in several turns: it is read in one, scored in another and answered in a
third. There all turns between two rests of the process count as one.

To wait is to leave the processor idle, too: gRPC reads messages while the loop waits for it, and on
grpc.aio another thread scores. The CPU time that the process takes counts, therefore, where that is
more than the time in which its loop did not wait; again less what larger batches would save.

A few callers who each wait for their answers before they ask again never fill it, though they
may keep the loop from waiting: each turn has a few lists. More servers would not help them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ranker.metrics.recorder import Recorder
from ranker.rpc import Numbers
from ranker.serving.turn_costs import TurnCosts

_SURPRISED = 1.5
"""If turns take so many times what is predicted, or so much less, other lists come than before, or
other models are served: what was learned of turns no longer holds."""

_OUTLIER = 3.0
"""A turn that takes so many times what is predicted was held up."""

_SURPRISE_SHARE = 0.005
_MOST_SURPRISE = 30.0
"""What a turn has of that average, and what counts of it at most: a machine may stand still."""

_REST = 50e-6
"""Seconds without work that are a rest. Less passes while one thread wakes another."""

_LONG_REST = 0.01
"""What was done before so long a rest was for no list that came after it."""


class _Moment(NamedTuple):
    """What there was until the end of a turn, in seconds and in numbers; see `LoopLoad`.

    What is left out is neither in `now` nor in `cpu`.
    """

    left_out: float
    now: float
    waited: float
    cpu: float
    lists: float
    rows: int
    spare: float


class LoopLoad:
    """Records how busy a worker's loop is. For the loop's thread alone.

    Args:
        recorder: where.
        waited: one number: the seconds that the loop has waited so far; see `ranker.rpc.RpcCounts`.
        full_turn: the most lists that a turn answers.
        whole_turns: whether a turn has all of the work of its lists.
        now: when the first turn begins.
        cores: how many the process has for itself; it may be a part of one.
        cpu: the seconds of CPU time that the process has taken so far.
    """

    def __init__(
        self,
        recorder: Recorder,
        waited: Numbers,
        full_turn: int,
        whole_turns: bool,
        now: float,
        cores: float = 1.0,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._recorder = recorder
        self._waited = waited
        self._after_rest, self._following = TurnCosts(_OUTLIER), TurnCosts(_OUTLIER)
        self._full_turn = full_turn
        self._whole_turns = whole_turns
        self._cores = cores
        self._cpu = cpu
        self._surprise = 1.0  # how many times what was predicted turns have taken of late
        self._left_out = 0.0
        self._begun = 0.0  # seconds of turns without lists, for those that the next one has
        self._rested = False  # before the whole turn that is counted next
        self._last = self._counted = _Moment(0.0, now, waited[0], cpu(), 0.0, 0, 0.0)

    def leave_out(self, seconds: float) -> None:
        """The loop has spent so many seconds on what it had time to spare for."""
        self._left_out += seconds

    def on_turn_end(
        self, now: float, lists: float, rows: int, most_rows: int, spare: float = 0.0
    ) -> None:
        """A turn is over.

        Args:
            now: the time, in seconds.
            lists: how many the worker has scored since it started.
            rows: how many candidates these had.
            most_rows: of a batch as large as pays; lists that fill one fill a whole turn, too.
            spare: the seconds of its engines' threads that larger batches would have saved so far.
        """
        out = self._left_out
        end = _Moment(out, now - out, self._waited[0], self._cpu() - out, lists, rows, spare)
        last, self._last = self._last, end
        rest = self._rest(last, end)
        if rest > _LONG_REST:
            self._begun = 0.0
        if self._whole_turns:
            self._rested = self._rested or rest > _REST
            self._count(end, most_rows)
            return
        if rest > _REST and last is not self._counted:
            self._count(last, most_rows)
        if end.lists - self._counted.lists >= self._full_turn:
            self._count(end, most_rows)

    def _rest(self, last: _Moment, end: _Moment) -> float:
        """Seconds between two turns in which the process had nothing to do, or time to spare."""
        asleep = end.now - last.now - (end.cpu - last.cpu)
        return min(asleep, end.waited - last.waited) + end.left_out - last.left_out

    def _count(self, end: _Moment, most_rows: int) -> None:
        """Counts what there was since the last time."""
        began, self._counted = self._counted, end
        busy = end.now - began.now - (end.waited - began.waited)
        used = end.cpu - began.cpu - (end.spare - began.spare)
        seconds = max(busy, used / self._cores)
        if seconds <= 0.0:
            return
        lists = end.lists - began.lists
        if not lists:
            self._begun += seconds
            self._recorder.loop_worked(seconds)
            return
        begun, rested = self._begun, self._rested
        self._begun, self._rested = 0.0, False
        seconds += begun  # which is counted already
        costs = self._learnt(lists, seconds, rested)
        fullest = self._following if self._following.known else costs
        most = float(self._full_turn)
        if self._whole_turns:  # each has one batch at most
            most = min(most, most_rows * lists / (end.rows - began.rows))
        full = max(lists, fullest.full(most))
        usual = costs.predict(lists)
        if usual > 0.0:
            seconds *= min(1.0, lists / full * fullest.predict(full) / usual)
        self._recorder.loop_worked(max(0.0, seconds - begun))

    def _learnt(self, lists: float, seconds: float, rested: bool) -> TurnCosts:
        """What such turns cost, by this one and those before it, unless those had other lists."""
        predicted = (self._after_rest if rested else self._following).predict(lists)
        if predicted > 0.0:
            surprise = min(seconds / predicted, _MOST_SURPRISE)
            self._surprise += _SURPRISE_SHARE * (surprise - self._surprise)
            if not 1.0 / _SURPRISED < self._surprise < _SURPRISED:
                self._after_rest, self._following = TurnCosts(_OUTLIER), TurnCosts(_OUTLIER)
                self._surprise = 1.0
        costs = self._after_rest if rested else self._following
        costs.observe(lists, seconds)
        return costs
