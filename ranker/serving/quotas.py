"""Whether a caller has taken what it may take of a server.

Requests and candidates are counted by token buckets that hold what may be taken in a second. All
workers share a caller's buckets, without a lock: each adds to a count of its own what it lets in,
and reads those of the others.

What comes while a bucket is full runs over, and is lost. So there is in it

    what it holds + rate * time - what was taken - what has run over.

A worker that finds more in it than it holds notes how much has run over so far, for itself; the
most that any has noted counts, since that never falls. A bucket runs over until somebody takes
something, and whoever takes looks first. So nothing that has run over is missed, even if a worker
does not look for hours, and several workers let in what one bucket would. Only two that look at the
same moment, within microseconds, may both give the last token away.

A list is let in while there is a token left of either kind, and takes as many as it has candidates,
even if that is more than there are: the caller then waits until it has paid for them. So a list of
any length can be let in, and a caller that is over its quota is refused before its list is read.

Pure logic: it reads no clock.
"""

from __future__ import annotations

import math
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


class Tokens(Protocol):
    """Tokens of one kind; `ranker.metrics.caller_tokens.CallerTokens` has more on each method."""

    def read(self, rate: float) -> tuple[float, float]:
        """The tokens taken, ever, and what has run over."""

    def add(self, tokens: float) -> None:
        """So many are given."""

    def note(self, rate: float, overflow: float) -> None:
        """So much has run over."""

    def set_rate(self, rate: float) -> None:
        """So many come in a second from now on; 0: any number. What ran over at another is gone."""


class Taken(Protocol):
    """What a caller has taken, of all workers."""

    @property
    def requests(self) -> Tokens:
        """Requests."""

    @property
    def candidates(self) -> Tokens:
        """Candidates in them."""


class TokensHere:
    """Tokens that are taken of one worker alone."""

    def __init__(self) -> None:
        self._taken = self._rate = 0.0
        self._overflow = -math.inf

    def read(self, _rate: float) -> tuple[float, float]:
        """See `Tokens`."""
        return self._taken, self._overflow

    def add(self, tokens: float) -> None:
        """See `Tokens`."""
        self._taken += tokens

    def note(self, _rate: float, overflow: float) -> None:
        """See `Tokens`."""
        self._overflow = overflow

    def set_rate(self, rate: float) -> None:
        """See `Tokens`."""
        if rate != self._rate:
            self._rate, self._overflow = rate, -math.inf


class TakenHere:
    """What somebody has taken who is on one worker alone: a connection."""

    def __init__(self) -> None:
        self.requests = TokensHere()
        self.candidates = TokensHere()


class Bucket:
    """Tokens of one kind; it begins full, unless tokens at this rate are counted already.

    Args:
        kind: what a token is for, in the plural.
        rate: tokens a second.
        tokens: counts them.
    """

    def __init__(self, kind: str, rate: float, tokens: Tokens) -> None:
        self._kind = kind
        self._rate = rate
        self._most = max(rate * BURST_SECONDS, 1.0)
        self._tokens = tokens

    def check(self, now: float, deadline: float) -> None:
        """Raises OverQuotaError if there is no token left.

        Args:
            now: the time, on a clock that all workers have.
            deadline: when the caller stops waiting.
        """
        taken, overflow = self._tokens.read(self._rate)
        over = self._rate * now - taken
        if over > overflow:
            self._tokens.note(self._rate, over)
            return
        level = self._most - (overflow - over)
        if level < 1.0:
            wait = max((1.0 - level) / self._rate, LEAST_WAIT)
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

    Attributes:
        quota: likewise.
        rows: of its lists that wait in this worker's queue.
        size: their bytes.
    """

    def __init__(self, quota: Quota, taken: Taken) -> None:
        self.quota = quota
        self.rows = self.size = 0
        self._pace = RefusalPace(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE)
        self._taken = taken
        self._buckets = []
        for kind, rate, tokens in (
            ("requests", quota.requests_per_second, taken.requests),
            ("candidates", quota.candidates_per_second, taken.candidates),
        ):
            tokens.set_rate(rate)
            if rate:
                self._buckets.append(Bucket(kind, rate, tokens))

    def check(self, now: float, deadline: float) -> None:
        """Raises OverQuotaError if the caller has taken what it may take by now."""
        for bucket in self._buckets:
            bucket.check(now, deadline)

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
        self._taken.requests.add(1.0)
        self._taken.candidates.add(rows)

    def has_room(self, rows: int, size: int, max_rows: int, max_bytes: int) -> bool:
        """Whether so much more may wait in a queue of which that is the most that may wait."""
        share = self.quota.queue_share
        return self.rows + rows <= share * max_rows and self.size + size <= share * max_bytes

    def hold(self, sign: int, rows: int, size: int) -> None:
        """So much more of its lists waits (1), or less (-1)."""
        self.rows += sign * rows
        self.size += sign * size
