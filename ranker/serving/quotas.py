"""Whether a caller has taken what it may take of a server.

Requests and candidates are counted by token buckets that hold what may be taken in a second. All
workers share a caller's buckets, without a lock: each adds to a count of its own what it lets in,
and reads those of the others. Two that look at the same moment may both give the last token away.

A list is let in while there is a token left of either kind, and takes as many as it has candidates,
even if that is more than there are: the caller then waits until it has paid for them. So a list of
any length can be let in, and a caller that is over its quota is refused before its list is read.

Pure logic: it reads no clock.
"""

from __future__ import annotations

from typing import Protocol

from ranker.errors import QUOTA
from ranker.quota import Quota
from ranker.refusal_pace import RefusalPace
from ranker.serving.admission import RefusedError

LEAST_WAIT = 0.001
"""Seconds that a refused caller is told to wait, though its next token is due sooner."""

BURST_SECONDS = 1.0
"""A caller that has been quiet may take at once what it may take in so many seconds."""

REFUSALS_PER_SECOND = 200.0
"""To a caller; further ones are held back (`ranker.serving.paced_refusals`)."""

REFUSALS_AT_ONCE = 20.0
"""That many are not, after a time without any."""


class OverQuotaError(RefusedError):
    """The caller has taken what it may take."""

    reason = QUOTA


class Taken(Protocol):
    """What a caller has taken, ever, of all workers."""

    def total(self) -> tuple[float, float]:
        """Requests and candidates."""

    def add(self, rows: int) -> None:
        """This worker lets in a request with so many candidates."""


class TakenHere:
    """What somebody has taken who is on one worker alone: a connection."""

    def __init__(self) -> None:
        self._requests = self._rows = 0.0

    def total(self) -> tuple[float, float]:
        """Requests and candidates."""
        return self._requests, self._rows

    def add(self, rows: int) -> None:
        """Lets in a request."""
        self._requests += 1.0
        self._rows += rows


class Bucket:
    """Tokens of one kind, as one worker sees them.

    Args:
        kind: what a token is for, in the plural.
        rate: tokens a second.
        now: the time.
        taken: tokens taken so far, which it does not count.
    """

    def __init__(self, kind: str, rate: float, now: float, taken: float) -> None:
        self._kind = kind
        self._rate = rate
        self._most = max(rate * BURST_SECONDS, 1.0)
        self._level = self._most
        self._at = now
        self._taken = taken

    def check(self, now: float, taken: float, deadline: float) -> None:
        """Raises OverQuotaError if there is no token left.

        Args:
            now: the time.
            taken: tokens taken so far.
            deadline: when the caller stops waiting.
        """
        level = self._level + (now - self._at) * self._rate - (taken - self._taken)
        self._level = min(level, self._most)
        self._at, self._taken = now, taken
        if self._level < 1.0:
            wait = max((1.0 - self._level) / self._rate, LEAST_WAIT)
            raise OverQuotaError(
                f"this caller has taken its {self._rate:g} {self._kind} a second",
                wait,
                in_time=now + wait < deadline,
            )


class CallerQuota:
    """A caller's quota, as one worker keeps it.

    Args:
        quota: what it may take.
        taken: counts what it takes.
        now: the time.

    Attributes:
        quota: likewise.
        rows: of its lists that wait in this worker's queue.
        size: their bytes.
    """

    def __init__(self, quota: Quota, taken: Taken, now: float) -> None:
        self.quota = quota
        self.rows = self.size = 0
        self._pace = RefusalPace(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE)
        self._taken = taken
        requests, rows = taken.total()
        self._requests = _bucket("requests", quota.requests_per_second, now, requests)
        self._candidates = _bucket("candidates", quota.candidates_per_second, now, rows)

    def check(self, now: float, deadline: float) -> None:
        """Raises OverQuotaError if the caller has taken what it may take by now."""
        requests, rows = self._taken.total()
        if self._requests is not None:
            self._requests.check(now, requests, deadline)
        if self._candidates is not None:
            self._candidates.check(now, rows, deadline)

    def refusal(self, now: float, deadline: float) -> OverQuotaError:
        """Why a request is refused that has waited for what the caller may take."""
        try:
            self.check(now, deadline)
        except OverQuotaError as error:
            return error
        return OverQuotaError("other requests of this caller wait for what it may take", LEAST_WAIT)

    def refusal_wait(self, now: float) -> float:
        """Seconds for which the refusal of a call that comes now is to be held back."""
        return self._pace.wait(now)

    def take(self, rows: int, now: float, deadline: float) -> None:
        """Takes what a request with so many candidates takes; raises as `check` does."""
        self.check(now, deadline)
        self._taken.add(rows)

    def has_room(self, rows: int, size: int, max_rows: int, max_bytes: int) -> bool:
        """Whether so much more may wait in a queue of which that is the most that may wait."""
        share = self.quota.queue_share
        return self.rows + rows <= share * max_rows and self.size + size <= share * max_bytes

    def hold(self, sign: int, rows: int, size: int) -> None:
        """So much more of its lists waits (1), or less (-1)."""
        self.rows += sign * rows
        self.size += sign * size


def _bucket(kind: str, rate: float, now: float, taken: float) -> Bucket | None:
    return Bucket(kind, rate, now, taken) if rate else None
