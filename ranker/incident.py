"""Bugs: logged in full, told to the caller as an id."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TypeVar

from ranker.logs import trace_of

T = TypeVar("T")


def incident(
    logger: logging.Logger, what: str, error: BaseException, traceparent: str | None = None
) -> str:
    """Logs an unexpected exception with its traceback under a fresh id.

    Args:
        logger: where to.
        what: what failed, in a few words.
        error: the exception.
        traceparent: the W3C trace context of the request that met it, if it sent one.

    Returns:
        A message for the caller: what failed and the id to find in the log,
        but nothing of the exception itself.
    """
    mark = secrets.token_hex(4)
    logger.error(
        "%s [%s]", what, mark, exc_info=error, extra={"incident": mark, **trace_of(traceparent)}
    )
    return f"{what}; the server's log says more under [{mark}]"


def guard(
    logger: logging.Logger, what: str, function: Callable[..., T], *arguments: object
) -> T | None:
    """Calls a function whose exceptions must not end its caller: they are logged as incidents."""
    try:
        return function(*arguments)
    except Exception as error:
        incident(logger, f"{what} failed", error)
        return None
