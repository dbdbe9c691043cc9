"""What a benchmark says: Markdown tables as they fill, and the same figures as JSON."""

from __future__ import annotations

import functools
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.harness import machine

Cell = str | int | float | None


class Table:
    """A table of a report; each row is printed as soon as it is there."""

    def __init__(self, title: str, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self.found: dict[str, Any] = {"title": title, "rows": []}
        lines = ["", title, ""] if title else [""]
        print(*lines, f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", sep="\n")

    def row(self, *cells: Cell) -> None:
        """Adds a row: one cell per column; None and NaN stay empty."""
        full = (None if cell != cell else cell for cell in cells)
        self.found["rows"].append(dict(zip(self._columns, full, strict=True)))
        print(f"| {' | '.join(map(shown, cells))} |", flush=True)


class Report:
    """What one run of a benchmark found, with the options that it was run with."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self._found: dict[str, Any] = {
            "benchmark": name,
            "options": {key: str(value) for key, value in options.items()},
            "machine": machine.facts(),
            "notes": [],
            "tables": [],
        }
        print(", ".join(f"{key} {value}" for key, value in self._found["machine"].items()))

    def say(self, text: str) -> None:
        """Prints and keeps a line."""
        self._found["notes"].append(text)
        print(f"\n{text}", flush=True)

    def rounds(self, number: int) -> Iterator[int]:
        """Counts rounds, telling who waits how far it is."""
        for done in range(number):
            click.echo(f"round {done + 1} of {number}", err=True)
            yield done

    def table(self, *columns: str, title: str = "") -> Table:
        """Begins a table."""
        table = Table(title, columns)
        self._found["tables"].append(table.found)
        return table

    def write(self, path: Path) -> None:
        """Writes all of it as JSON, figures in full."""
        path.write_text(json.dumps(self._found, indent=2) + "\n")


class Rounds:
    """Figures of several things that are measured in turns, once a round.

    What slows the machine down for a while then slows all of them, and the ratio of two,
    taken within each round, hardly changes.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[dict[str, float]]] = {}

    def note(self, thing: str, figures: dict[str, float]) -> None:
        """Adds what this round gave for a thing, by the heads of their columns."""
        self._found.setdefault(thing, []).append(figures)

    def things(self) -> list[str]:
        """In the order of their first figures."""
        return list(self._found)

    def medians(self, thing: str) -> dict[str, float]:
        """Of each figure, over the rounds."""
        rounds = self._found[thing]
        return {figure: _median(found[figure] for found in rounds) for figure in rounds[0]}

    def ratio(self, thing: str, base: str, figure: str) -> float:
        """The median over the rounds of the figure's ratio to that of the base, if it has any."""
        pairs = zip(self._found[thing], self._found.get(base, ()), strict=False)
        return _median(a[figure] / b[figure] for a, b in pairs)

    def show(self, report: Report, head: str, title: str = "") -> None:
        """A table with a row per thing."""
        figures = self.medians(self.things()[0])
        table = report.table(head, *figures, title=title)
        for thing in self._found:
            table.row(thing, *self.medians(thing).values())


def command(main: Callable[..., None]) -> click.Command:
    """Makes a benchmark of `main(report, **options)`: its help is its module's docstring."""
    module = sys.modules[main.__module__]
    name = module.__name__.rpartition(".")[2]

    @functools.wraps(main)
    def run(json_file: Path | None, **options: Any) -> None:
        report = Report(name, options)
        try:
            main(report, **options)
        finally:
            if json_file is not None:
                report.write(json_file)

    where = click.Path(dir_okay=False, path_type=Path)
    run = click.option("--json", "json_file", type=where, help="Also write the report there.")(run)
    settings = {"show_default": True, "help_option_names": ["-h", "--help"]}
    return click.command(name, help=module.__doc__, context_settings=settings)(run)


def shown(cell: Cell) -> str:
    """A cell as a table shows it: numbers to three digits."""
    if cell is None or cell != cell:
        return ""
    if not isinstance(cell, float):
        return cell if isinstance(cell, str) else f"{cell:,}"
    digits = 2 - math.floor(math.log10(abs(cell))) if cell and math.isfinite(cell) else 0
    return f"{round(cell, digits):,.{max(0, digits)}f}"


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else math.nan
