"""How lists end that were let in and get no answer."""

from __future__ import annotations

import logging

from ranker.errors import CancelledError, DeadlineError, InternalError, RankerError
from ranker.incident import guard
from ranker.logs import trace_of
from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)


def expire(task: RankTask, done: str) -> None:
    """Refuses a list, if it is not over: its caller has gone, or its deadline has passed.

    Args:
        task: the list.
        done: what it still waited for: to be `scored`, or `explained`.
    """
    if task.is_over:
        return
    if task.cancelled:
        task.metrics.request_expired("cancelled")
        refuse(task, CancelledError(f"cancelled before it was {done}"))
    else:
        task.metrics.request_expired("deadline")
        whose = "the caller's deadline, or the server's own (--max-deadline),"
        refuse(task, DeadlineError(f"{whose} passed before it was {done}"))


def refuse(task: RankTask, error: RankerError) -> None:
    """Refuses a list; never raises."""
    if isinstance(error, InternalError) and task.traceparent is not None:
        # The incident is the whole batch's; this ties the trace to it.
        logger.error("request lost: %s", error.message, extra=trace_of(task.traceparent))
    guard(logger, "refusing", task.finish, error)
