"""A search as one self-contained HTML page: rate against latency, and what the server did."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jinja2

from loadtests.chart import Axis, Line, axis, svg
from loadtests.scrape import ServerShare
from loadtests.search import Result, Step

TEMPLATE = Path(__file__).with_name("report.html")


def page(result: Result, slo: str, facts: dict[str, str]) -> str:
    """The report.

    Args:
        result: of the search.
        slo: the objective, as it was written.
        facts: what else a reader needs to know, in order: the model, the traffic.
    """
    steps = sorted(result.steps, key=lambda step: step.found.offered)
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    rendered: str = template.render(
        result=result,
        slo=slo,
        facts=facts,
        steps=steps,
        charts=_charts(list({step.found.offered: step for step in steps}.values()), result.rate),
        made=datetime.now(UTC),
    )
    return rendered


def _charts(steps: list[Step], rate: float) -> list[str]:
    """Of latency, and of the server's and the generator's work, over the rates, one step each."""
    across = axis("requests per second", [step.found.offered for step in steps])
    mark = rate or None

    def line(name: str, color: str, value: Callable[[Step], float]) -> Line:
        return Line(name, color, [(step.found.offered, value(step)) for step in steps])

    def latency(percentile: float) -> Callable[[Step], float]:
        return lambda step: 1e3 * step.found.latency.percentile(percentile)

    def server(value: Callable[[ServerShare], float]) -> Callable[[Step], float]:
        return lambda step: math.nan if step.server is None else value(step.server)

    def chart(title: str, label: str, *lines: Line, logarithmic: bool = False) -> str:
        values = [y for line in lines for _, y in line.points]
        up: Axis = axis(label, values, logarithmic=logarithmic)
        return svg(title, across, up, lines, mark)

    return [
        chart(
            "Latency from the intended moment",
            "milliseconds",
            line("p50", "#1f6feb", latency(50)),
            line("p99", "#d1242f", latency(99)),
            logarithmic=True,
        ),
        chart(
            "Who works how much",
            "cores",
            line("engine", "#2e8540", server(lambda share: share.engine_utilization)),
            line("server", "#9a6700", server(lambda share: share.cpu)),
            line("this generator", "#8b949e", lambda step: step.found.cpu),
        ),
        chart(
            "Mean batch",
            "per batch",
            line("requests", "#1f6feb", server(lambda share: share.batch_requests)),
            line("candidates", "#6f42c1", server(lambda share: share.batch_rows)),
            logarithmic=True,
        ),
    ]
