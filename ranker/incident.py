"""Bugs: logged in full, told to the caller as an id."""

from __future__ import annotations

import logging
import secrets


def incident(logger: logging.Logger, what: str, error: BaseException) -> str:
    """Logs an unexpected exception with its traceback under a fresh id.

    Returns:
        A message for the caller: what failed and the id to find in the log,
        but nothing of the exception itself.
    """
    mark = secrets.token_hex(4)
    logger.error("%s [%s]", what, mark, exc_info=error, extra={"incident": mark})
    return f"{what}; the server's log says more under [{mark}]"
