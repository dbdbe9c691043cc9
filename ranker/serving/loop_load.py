"""How much of a loop's time its work would take if every turn were a full one.

A turn of the loop has a fixed cost, to wake up and to score a batch, and each list that it answers
adds to it. A server with little to do takes a turn for each list, so it looks busy long before
it is: with more to do it answers more lists in a turn. What a turn costs beyond its share
in a full one is therefore not counted.

To wait is to leave the processor idle, too: gRPC reads messages while the loop waits for it, and on
grpc.aio another thread scores. The CPU time that the process takes counts, therefore, where that is
more than the time in which its loop did not wait; again less what larger batches would save.

A few callers who each wait for their answers before they ask again never fill it, though they
may keep the loop from waiting: each turn has a few lists. More servers would not help them.
"""

from __future__ import annotations

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


class LoopLoad:
    """Records how busy a worker's loop is. For the loop's thread alone.

    Args:
        recorder: where.
        waited: one number: the seconds that the loop has waited so far; see `ranker.rpc.RpcCounts`.
        full_turn: the most lists that a turn answers; 1: lists share no turn.
        now: when the first turn begins.
        cores: how many the process has for itself; it may be a part of one.
        cpu: the seconds of CPU time that the process has taken so far.
    """

    def __init__(
        self,
        recorder: Recorder,
        waited: Numbers,
        full_turn: int,
        now: float,
        cores: float = 1.0,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._recorder = recorder
        self._waited = waited
        self._costs = TurnCosts(_OUTLIER)
        self._full_turn = full_turn
        self._cores = cores
        self._cpu = cpu
        self._lists, self._rows = 0.0, 0
        self._spare = 0.0
        self._surprise = 1.0  # how many times what was predicted turns have taken of late
        self._turn_began = now
        self._waited_before = waited[0]
        self._cpu_before = cpu()

    def leave_out(self, now: float) -> None:
        """A turn is over in which the loop has done nothing but what it had time to spare for."""
        self._turn_began, self._waited_before, self._cpu_before = now, self._waited[0], self._cpu()

    def on_turn_end(
        self, now: float, lists: float, rows: int, most_rows: int, spare: float = 0.0
    ) -> None:
        """A turn is over.

        Args:
            now: the time, in seconds.
            lists: how many the worker has scored since it started.
            rows: how many candidates these had.
            most_rows: of a batch as large as pays; lists that fill one fill a turn, too.
            spare: the seconds of its engines' threads that larger batches would have saved so far.
        """
        waited, cpu = self._waited[0], self._cpu()
        busy = now - self._turn_began - (waited - self._waited_before)
        used = cpu - self._cpu_before - (spare - self._spare)
        seconds = max(busy, used / self._cores)
        self._spare = spare
        scored, scored_rows = lists - self._lists, rows - self._rows
        self._turn_began, self._waited_before, self._cpu_before = now, waited, cpu
        self._lists, self._rows = lists, rows
        if seconds <= 0.0:
            return
        if scored:
            costs = self._learnt(scored, seconds)
            most = min(self._full_turn, most_rows * scored / scored_rows)
            full = costs.full(most)
            if scored < full:
                seconds *= costs.needed(scored, full)
        self._recorder.loop_worked(seconds)

    def _learnt(self, lists: float, seconds: float) -> TurnCosts:
        """What turns cost, by this one and those before it, unless these were of another kind."""
        predicted = self._costs.predict(lists)
        if predicted > 0.0:
            surprise = min(seconds / predicted, _MOST_SURPRISE)
            self._surprise += _SURPRISE_SHARE * (surprise - self._surprise)
            if not 1.0 / _SURPRISED < self._surprise < _SURPRISED:
                self._costs, self._surprise = TurnCosts(_OUTLIER), 1.0
        self._costs.observe(lists, seconds)
        return self._costs
