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

import random
import time
from collections.abc import Callable

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

_LEARNED_A_SECOND = 250
_FEWEST_LEARNED = 1 / 16
"""To learn takes time: so many turns are learned of in a second, but at least this share of all."""

_RATE_SECONDS = 1.0
"""For how long turns are counted to find that share. It must not follow the load from turn to turn:
turns take less time when many follow one another."""

_REST = 50e-6
"""Seconds without work that are a rest. Less passes while one thread wakes another."""

_LONG_REST = 0.01
"""What was done before so long a rest was for no list that came after it."""


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
        self._left_out = 0.0  # seconds of this turn
        self._begun = 0.0  # seconds of turns without lists, for those that the next one has
        self._rested = False  # before the whole turn that is counted next
        # As of the end of the last turn.
        self._then, self._waited_then, self._cpu_then = now, waited[0], cpu()
        self._spare_then = 0.0
        self._lists, self._rows = 0.0, 0
        # As of the last whole turn that was counted, and the seconds since then.
        self._counted_lists, self._counted_rows = 0.0, 0
        self._busy = self._used = 0.0
        # Turns from one that is learned of to the next: on an average, this time, and those left.
        # Drawn at random, for what a turn takes may hang on the one before.
        self._usual_period = self._period = self._until_learning = 1
        self._random = random.Random(0)
        self._turns, self._turns_since = 0, now
        # Of turns, until more is learned.
        self._parts: dict[tuple[float, int, bool, int], float] = {}

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
        cpu, waited = self._cpu(), self._waited[0]
        out, self._left_out = self._left_out, 0.0
        passed = now - self._then - out
        waiting = waited - self._waited_then
        used = cpu - self._cpu_then - out
        asleep = passed - used
        # In which the process had nothing to do, or time to spare.
        rest = (asleep if asleep < waiting else waiting) + out
        if rest > _LONG_REST:
            self._begun = 0.0
        if self._whole_turns:
            self._rested = self._rested or rest > _REST
        elif rest > _REST:
            self._count(most_rows)
        self._busy += passed - waiting
        self._used += used - (spare - self._spare_then)
        self._lists, self._rows = lists, rows
        self._then, self._waited_then, self._cpu_then = now, waited, cpu
        self._spare_then = spare
        if self._whole_turns or lists - self._counted_lists >= self._full_turn:
            self._count(most_rows)

    def _count(self, most_rows: int) -> None:
        """Counts what there was since the last time."""
        busy, used = self._busy, self._used / self._cores
        lists, rows = self._lists - self._counted_lists, self._rows - self._counted_rows
        self._busy = self._used = 0.0
        self._counted_lists, self._counted_rows = self._lists, self._rows
        seconds = busy if busy > used else used
        if seconds <= 0.0:
            return
        if not lists:
            self._begun += seconds
            self._recorder.loop_worked(seconds)
            return
        begun, rested = self._begun, self._rested
        self._begun, self._rested = 0.0, False
        seconds += begun  # which is counted already
        self._until_learning -= 1
        if self._until_learning == 0:
            self._learn(lists, seconds, rested)
        # Of a model `most_rows` hardly changes until more is learned, but models differ in it.
        turn = lists, rows, rested, most_rows.bit_length()
        part = self._parts.get(turn)
        if part is None:
            part = self._parts[turn] = self._part(lists, rows, rested, most_rows)
        seconds *= part
        self._recorder.loop_worked(seconds - begun if seconds > begun else 0.0)

    def _part(self, lists: float, rows: int, rested: bool, most_rows: int) -> float:
        """What the lists of such a turn would take in a full one, of what it takes."""
        costs = self._after_rest if rested else self._following
        usual = costs.predict(lists)
        if usual <= 0.0:
            return 1.0
        fullest = self._following if self._following.known else costs
        most = float(self._full_turn)
        if self._whole_turns:  # each has one batch at most
            most = min(most, most_rows * lists / rows)
        full = max(lists, fullest.full(most))
        return min(1.0, lists / full * fullest.predict(full) / usual)

    def _learn(self, lists: float, seconds: float, rested: bool) -> None:
        """Learns what such turns take, and forgets those before it if these had other lists."""
        self._parts.clear()
        self._turns += self._period
        passed = self._then - self._turns_since
        if passed >= _RATE_SECONDS:
            share = max(_FEWEST_LEARNED, min(1.0, _LEARNED_A_SECOND * passed / self._turns))
            self._usual_period = round(1.0 / share)
            self._turns, self._turns_since = 0, self._then
        self._period = self._until_learning = self._random.randint(1, 2 * self._usual_period - 1)
        predicted = (self._after_rest if rested else self._following).predict(lists)
        if predicted > 0.0:
            surprise = min(seconds / predicted, _MOST_SURPRISE)
            self._surprise += _SURPRISE_SHARE * (surprise - self._surprise)
            if not 1.0 / _SURPRISED < self._surprise < _SURPRISED:
                self._after_rest, self._following = TurnCosts(_OUTLIER), TurnCosts(_OUTLIER)
                self._surprise, predicted = 1.0, 0.0
        costs = self._after_rest if rested else self._following
        costs.observe(lists, seconds, predicted)
