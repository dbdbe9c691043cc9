"""Line charts as SVG, to be part of an HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 34, 46
TICKS = 6


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: for the legend.
        color: as CSS has it.
        points: x and y, ascending in x; a y that is not finite leaves a gap.
    """

    name: str
    color: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: with its unit.
        low: the smallest value.
        high: the largest.
        logarithmic: decades are equally far apart; values must be above 0.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, from 0 (low) to 1 (high)."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values to mark, from low to high."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = [float(f"{m}e{decade}") for decade in decades for m in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / TICKS
            power = 10 ** math.floor(math.log10(rough))
            step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
            marks = [
                step * i
                for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
            ]
        return [mark for mark in marks if self.low <= mark <= self.high]


def axis(label: str, values: Sequence[float], *, logarithmic: bool = False) -> Axis:
    """An axis on which all finite values have a place."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    if not finite:
        return Axis(label, 1.0, 10.0, logarithmic)
    if logarithmic:
        return Axis(label, min(finite) / 2, max(finite) * 2, logarithmic)
    return Axis(label, 0.0, (max(finite) or 1.0) * 1.05)


def svg(
    title: str, across: Axis, up: Axis, lines: Sequence[Line], mark: float | None = None
) -> str:
    """A chart.

    Args:
        title: said above it.
        across: the horizontal axis.
        up: the vertical one.
        lines: what to draw; points beyond the axes are left out.
        mark: an x to draw a vertical line at.

    Returns:
        An `<svg>` element, well-formed as XML.
    """

    def x(value: float) -> float:
        return LEFT + across.place(value) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - up.place(value) * (HEIGHT - TOP - BOTTOM)

    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
    ]
    for value in up.ticks():
        at = f"{y(value):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="up" x="{LEFT - 8}" y="{at}">{value:g}</text>')
    for value in across.ticks():
        at = f"{x(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="across" x="{at}" y="{bottom + 16}">{value:g}</text>')
    for label, place in (
        (across.label, f"translate({(LEFT + right) / 2} {HEIGHT - 8})"),
        (up.label, f"translate(16 {(TOP + bottom) / 2}) rotate(-90)"),
    ):
        parts.append(f'<text class="across" transform="{place}">{escape(label)}</text>')
    if mark is not None:
        at = f"{x(mark):.1f}"
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>')
    legend = float(right)
    for line in reversed(lines):
        legend -= 7.2 * len(line.name) + 30
        parts.append(
            f'<rect x="{legend:.0f}" y="10" width="14" height="4" fill="{line.color}"/>'
            f'<text x="{legend + 20:.0f}" y="17">{escape(line.name)}</text>'
        )
    for line in lines:
        parts += _drawn(line, [(x(a), y(b)) for a, b in line.points if _shown(across, up, a, b)])
    parts.append("</svg>")
    return "\n".join(parts)


def _shown(across: Axis, up: Axis, a: float, b: float) -> bool:
    return across.low <= a <= across.high and up.low <= b <= up.high


def _drawn(line: Line, places: Sequence[tuple[float, float]]) -> list[str]:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    return [
        f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2"/>',
        *(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{line.color}"/>' for a, b in places),
    ]
