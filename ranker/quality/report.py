"""An evaluation as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from ranker.distribution import require
from ranker.quality.evaluation import Evaluation

TEMPLATE = Path(__file__).with_name("report.html.j2")


def render(evaluation: Evaluation) -> str:
    """Makes the page. It loads nothing from anywhere, and follows the reader's light or dark.

    Raises:
        MissingExtraError: the extra `quality` isn't installed.
    """
    require("quality")
    from jinja2 import Environment, StrictUndefined

    from ranker.quality import charts

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["signed"] = lambda number: f"{number:+.4f}"
    environment.filters["number"] = lambda number: f"{number:.4f}"
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(evaluation=evaluation, charts=charts)
