"""The exporters by name: whatever is installed under the entry-point group `ranker.exporters`.

An exporter publishes what `ranker.metrics` records. To add one: a package with an
object that is an `Exporter`, and a line under that group in its pyproject.toml.
Nothing here or elsewhere in `ranker` imports one by name.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ranker.metrics.access_log_writer import Traced
    from ranker.metrics.families import Source
    from ranker.metrics.office_recorder import OfficeRecorder

GROUP = "ranker.exporters"

Value = str | int | float


@dataclass(frozen=True)
class Option:
    """One of an exporter's settings: a flag of `ranker serve`, `--name` or `RANKER_NAME`.

    Attributes:
        name: in lower case, with underscores.
        default: its value if nothing is said; its type is the option's.
        help: what it does, in one sentence.
        least: the smallest number that it may be.
        most: the largest.
    """

    name: str
    default: Value
    help: str
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Reply:
    """What a page answers.

    Attributes:
        body: what it says.
        headers: what HTTP says of the body, its type at least.
    """

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Page:
    """What an exporter that is asked, instead of sending, answers over HTTP.

    The office serves it, on the server's HTTP port and on a port of the page's own.

    Attributes:
        path: where it is: `/metrics`.
        read: takes the request's headers, their names in lower case; called on the
            office's loop, so it must be short.
        option: the exporter's option that says which port of its own the page has.
        port: that port; 0: any free one; -1: none.
    """

    path: str
    read: Callable[[Mapping[str, str]], Reply]
    option: str
    port: int


@dataclass(frozen=True)
class Running:
    """An exporter at work.

    Attributes:
        pages: what it answers.
        traced: makes spans of requests that are traced; None: it takes none.
        close: publishes what is left, within a time of its own, and no more after it.
    """

    pages: Sequence[Page] = ()
    traced: Traced | None = None
    close: Callable[[], None] = lambda: None


class Exporter(Protocol):
    """What is found under the entry-point group."""

    options: Sequence[Option]

    def start(
        self,
        source: Source,
        recorder: OfficeRecorder,
        settings: Mapping[str, Value],
    ) -> Running | None:
        """Starts to publish: by pages, or on threads of its own.

        Args:
            source: what to publish.
            recorder: where to count what became of it.
            settings: a value for each of `options`.

        Returns:
            None if the settings don't ask for it.

        Raises:
            ValueError: a setting can't be.
            ImportError: something is missing; says what brings it.
        """


@cache
def exporters() -> dict[str, Exporter]:
    """All exporters that are installed, by name."""
    return load_exporters(exporter_places())


@cache
def exporter_places() -> dict[str, str]:
    """Where the object of each exporter is that is installed, `package.module:object`, by name.

    All that is installed is looked through for it, so one process does it for the others.
    """
    from importlib.metadata import entry_points

    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: f"{point.module}:{point.attr}" for point in found}


def load_exporters(places: Mapping[str, str]) -> dict[str, Exporter]:
    """Imports exporters.

    Args:
        places: by name, as `exporter_places` has found them.
    """
    return {name: pkgutil.resolve_name(place) for name, place in places.items()}
