"""What commands have in common that work for long and then give a verdict."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from ranker.distribution import MissingExtraError
from ranker.errors import RankerError


class UnusableError(click.ClickException):
    """What can't be worked on: exit code 1 is for verdicts."""

    exit_code = 2


@contextmanager
def usage_errors() -> Iterator[None]:
    """Has errors that a user can act on end the command with exit code 2."""
    try:
        yield
    except BrokenPipeError:  # whoever read what is printed has enough; click ends it silently
        raise
    except (RankerError, MissingExtraError, OSError) as error:
        raise UnusableError(str(error)) from error


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, and nothing elsewhere; told the share that is done, from 0 to 1."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=1000, label=label, file=sys.stderr) as bar:
        yield lambda share: bar.update(round(1000 * share) - bar.pos)
