"""Whether a list that comes now would be answered in time.

    finish = now + headroom * pace * (what is being scored + what waits) + pace * its own scoring

has to be no later than its deadline, less the time that it may have waited before it was read.
All costs are predictions of the cost models, in seconds of engine time. Three things are learned
of how these turn out:

- *Pace.* More passes from batch to batch than scoring: requests are read and refused, answers are
  written, other processes run. The ratio to the predicted cost is the pace at which a queue moves.
- *Headroom.* How late answers are, no prediction can know: there is the way to the caller and
  back, and whatever else runs on the machine. So it follows a quantile, up with each list that is
  late and down with each that isn't, in the proportion in which that may happen.
- *Least.* What scoring any list took of late that came while others waited, and how few rows one
  had. What would be too late, or too much, even so is refused before it is read.

Pure logic: it reads no clock.
"""

from __future__ import annotations

from ranker.errors import OverloadedError

PACE_MEMORY = 0.9
"""Weight of the past at each measurement of the pace: the last ten batches count most."""

PACE_OUTLIER = 4.0
"""A batch that took this many times what the pace says was held up by something else."""

LEAST_MEMORY = 128
"""Lists over which the least predicted cost, and the fewest rows, are forgotten."""

HEADROOM = (1.5, 4.0)
"""How much longer than predicted a wait may be before a deadline is missed: least and most."""

LATE_SHARE = 0.01
"""Lists that had to wait and then missed their deadline, of all: the headroom aims at this."""

HEADROOM_STEP = 0.05
"""What one that was late adds to the headroom."""


class RefusedError(OverloadedError):
    """A list is not let into the queue."""


class FullOfRowsError(RefusedError):
    """The queue may hold no more rows."""

    reason = "queue_rows"


class FullOfBytesError(RefusedError):
    """The queue may hold no more bytes."""

    reason = "queue_bytes"


class FullShareError(RefusedError):
    """The connection that it came on may have no more of the queue."""

    reason = "connection_share"


class TooLateError(RefusedError):
    """The list's deadline would pass before its answer is ready."""

    reason = "deadline"


class Admission:
    """What has been learned of one queue.

    Attributes:
        least: the fewest seconds that scoring a list was predicted to take of late. A list
            that is not read yet takes as long, as far as one can know.
        least_rows: the fewest rows that one had. Not told from `least`: a cost model that has
            seen lists of one length only can take any number of rows for it.
    """

    def __init__(self) -> None:
        self._headroom = HEADROOM[0]
        self._pace = 1.0
        self._taken_at = 0.0  # when the last batch was taken
        self._pacing = 0.0  # what it was to cost, if more waited then
        self.least = 0.0
        self.least_rows = 1.0

    def check(
        self, deadline: float, now: float, ahead: float, unread: float, own: float, rows: float
    ) -> float:
        """How long a list that comes now will wait.

        Args:
            deadline: when its caller stops waiting.
            now: the time.
            ahead: predicted seconds to score all that comes before it.
            unread: seconds that it may have waited before it was read, which its
                deadline knows nothing of.
            own: predicted seconds to score it.
            rows: how many it has.

        Returns:
            Seconds.

        Raises:
            TooLateError: its predicted finish is past its deadline. Never raised
                while nothing is ahead: a prediction that has gone wrong must be
                able to learn.
        """
        forgetting = self.least + own / LEAST_MEMORY
        self.least = own if own < forgetting else forgetting
        more = self.least_rows + rows / LEAST_MEMORY
        self.least_rows = rows if rows < more else more
        wait = ahead * self._pace
        finish = now + self._headroom * wait + self._pace * own
        until = deadline - unread
        if finish > until and wait > 0.0:
            raise TooLateError("the deadline can't be met", wait, in_time=now + wait < until)
        return wait

    def on_end(self, *, in_time: bool) -> None:
        """A list that had to wait got its answer before its deadline, or didn't.

        One that was let in because nothing was ahead of it tells nothing: no headroom
        would have kept it out.
        """
        headroom = self._headroom + (-LATE_SHARE * HEADROOM_STEP if in_time else HEADROOM_STEP)
        if HEADROOM[0] <= headroom <= HEADROOM[1]:
            self._headroom = headroom

    def on_batch_start(self, now: float) -> None:
        """A batch is about to be taken: if lists waited since the one before, how long was that?

        Where nothing waited the pace fades, or else one pause of the machine could keep
        out whatever would have shown that it is over.
        """
        pace = 1.0
        if self._pacing:
            pace = min((now - self._taken_at) / self._pacing, PACE_OUTLIER * self._pace)
            self._pacing = 0.0
        self._pace = max(1.0, PACE_MEMORY * self._pace + (1.0 - PACE_MEMORY) * pace)

    def on_more_waiting(self, now: float, cost: float) -> None:
        """A batch of that predicted cost was taken, and left something to take right after it."""
        self._taken_at, self._pacing = now, cost
