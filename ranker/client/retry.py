"""When a call that met no server is made again.

A server that drains, or that has just died, refuses with UNAVAILABLE; another one, or the one
that takes its place a second later, answers. On the transport `aio` gRPC ends calls as CANCELLED
when far too many have come. gRPC's own retries end after five attempts, which is sooner. So these
are ours: until the call's deadline, with pauses that double and are spread at random, so that
callers whom one server has left do not all come back at the same moment
(M. Brooker, "Exponential Backoff And Jitter", 2015: what is called "equal jitter" there).
"""

from __future__ import annotations

import random

from ranker.errors import CancelledError, DeadlineError, RankerError, UnavailableError

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds; half of each is at random."""


def pause_before_retry(error: RankerError, attempt: int, left: float) -> float | None:
    """How long to wait before a call is made again.

    Args:
        error: what ended it; not the client's own doing.
        attempt: how often it has been made again already.
        left: the seconds that are left to its deadline.

    Returns:
        Seconds; None: `error` stands.
    """
    if not isinstance(error, UnavailableError | CancelledError):
        return None
    longest = min(FIRST_PAUSE * 2.0 ** min(attempt, 30), LONGEST_PAUSE)
    pause = longest * random.uniform(0.5, 1.0)
    return pause if pause < left else None


def with_earlier(error: RankerError, before: RankerError | None) -> RankerError:
    """The error that a call ends with: where its time ran out, that says why it was made again.

    Args:
        error: what ended the last attempt.
        before: what ended the one before it; None: there was none.
    """
    if before is None or not isinstance(error, DeadlineError):
        return error
    return DeadlineError(f"{error.message}; the attempt before ended with: {before.message}")
