"""The exporters by name: whatever is installed under the entry-point group `ranker.exporters`.

An exporter publishes what `ranker.metrics` records. To add one: a package with an
object that is an `Exporter`, and a line under that group in its pyproject.toml.
Nothing here or elsewhere in `ranker` imports one by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ranker.metrics.families import Source
    from ranker.metrics.recorder import OfficeRecorder

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


class Running(Protocol):
    """An exporter at work."""

    @property
    def bound(self) -> Mapping[str, Value]:
        """Options that turned out otherwise than they were set: a port that was 0."""

    def close(self) -> None:
        """Publishes what is left, within a time of its own, and no more after it."""


class Exporter(Protocol):
    """What is found under the entry-point group."""

    options: Sequence[Option]

    def start(
        self,
        source: Source,
        recorder: OfficeRecorder,
        settings: Mapping[str, Value],
    ) -> Running | None:
        """Starts to publish, on threads of its own.

        Args:
            source: what to publish.
            recorder: where to count what became of it.
            settings: the server's `host`, and a value for each of `options`.

        Returns:
            None if the settings don't ask for it.

        Raises:
            OSError: a port can't be had; says which and why.
            ImportError: something is missing; says what brings it.
        """


@cache
def exporters() -> dict[str, Exporter]:
    """All exporters that are installed, by name."""
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: point.load() for point in found}
