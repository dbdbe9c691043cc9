"""The charts of a report, as SVG whose colours the page decides.

Drawn by matplotlib in colours that stand for the page's own: after drawing, each is
replaced by a CSS variable, so that one chart is readable on a light and a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ranker.quality.evaluation import Estimate, Evaluation, MetricResult, Ranker

_INK, _FAINT, _MODEL, _BASELINE, _GOOD, _BAD = (f"#00000{i}" for i in range(1, 7))
_VARIABLES = {
    _INK: "--ink",
    _FAINT: "--faint",
    _MODEL: "--model",
    _BASELINE: "--baseline",
    _GOOD: "--good",
    _BAD: "--bad",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": _FAINT,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,
}
_WIDTH = 7.6
"""Inches, 72 points each."""

_BINS = 40
"""Even, so that none reaches over zero."""

_LONGEST_NAME = 40


def metric_intervals(evaluation: Evaluation) -> str:
    """Each metric's difference from the baseline with its interval; or, alone, its value."""
    return _intervals(
        "metrics", evaluation.metrics, [result.metric for result in evaluation.metrics]
    )


def slice_intervals(evaluation: Evaluation) -> str:
    """The first metric by slice, likewise."""
    return _intervals(
        "slices",
        [found.result for found in evaluation.slices],
        [f"{found.column}: {found.value} ({found.queries})" for found in evaluation.slices],
    )


def query_differences(evaluation: Evaluation) -> str:
    """How many queries the first metric changed by how much; those without change are left out."""
    assert evaluation.baseline is not None
    name = evaluation.metrics[0].metric
    change = evaluation.model.values[name] - evaluation.baseline.values[name]
    changed = change[change != 0]
    reach = float(np.abs(changed).max(initial=0)) or 1.0
    with rc_context(_STYLE):
        figure, axes = _figure(2.5)
        edges = np.linspace(-reach, reach, _BINS + 1)
        counts, _ = np.histogram(changed, edges)
        middles = (edges[1:] + edges[:-1]) / 2
        colors = [_BAD if middle < 0 else _GOOD for middle in middles]
        axes.bar(middles, counts, np.diff(edges), color=colors, alpha=0.75)
        axes.axvline(0, color=_INK, linewidth=0.8)
        mean = evaluation.metrics[0].difference
        if mean is not None:
            axes.axvline(mean.value, color=_MODEL, linewidth=1.2, linestyle="--")
        axes.set_xlabel(f"difference in {name} (dashed: the mean over all queries)")
        axes.set_ylabel("queries")
        return _svg(figure, "queries", f"histogram of the differences in {name} by query")


def score_distributions(evaluation: Evaluation) -> str:
    """How the scores of relevant candidates and of the others are distributed, for each model."""
    rankers = [("model", evaluation.model, _MODEL)]
    if evaluation.baseline is not None:
        rankers.append(("baseline", evaluation.baseline, _BASELINE))
    relevant = evaluation.labels >= evaluation.relevant_from
    with rc_context(_STYLE):
        figure = Figure((_WIDTH, 2.5), layout="constrained")
        all_axes = figure.subplots(1, len(rankers), squeeze=False)[0]
        for axes, (role, ranker, color) in zip(all_axes, rankers, strict=True):
            _distribution(axes, ranker, relevant, color)
            axes.set_xlabel(f"score of the {role}")
            axes.set_ylabel("density")
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
        return _svg(figure, "scores", "histograms of scores, relevant candidates and others")


def _distribution(axes: Axes, ranker: Ranker, relevant: NDArray[np.bool_], color: str) -> None:
    low, high = np.quantile(ranker.scores, [0.001, 0.999]).tolist()
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    for part, label, fill in ((~relevant, "not relevant", _FAINT), (relevant, "relevant", color)):
        scores = ranker.scores[part]
        if len(scores):
            counts, _ = np.histogram(scores, edges)
            density = counts / (len(scores) * np.diff(edges))
            axes.stairs(density, edges, color=fill, fill=True, alpha=0.25)
            axes.stairs(density, edges, color=fill, linewidth=1.4, label=label)


def _intervals(salt: str, results: Sequence[MetricResult], names: Sequence[str]) -> str:
    compared = results[0].difference is not None
    estimates: list[Estimate] = [result.difference or result.model for result in results]
    with rc_context(_STYLE):
        figure, axes = _figure(0.9 + 0.3 * len(results))
        for place, found in enumerate(estimates):
            color = _MODEL
            if compared and found.low > 0:
                color = _GOOD
            elif compared and found.high < 0:
                color = _BAD
            axes.plot([found.low, found.high], [place, place], color=color, linewidth=3, alpha=0.6)
            axes.plot(found.value, place, "o", color=color, markersize=6)
        if compared:
            axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(range(len(names)), labels=[_shortened(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_xlabel("model less baseline" if compared else "value")
        return _svg(figure, salt, f"intervals of {', '.join(names)}")


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure((_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, salt: str, label: str) -> str:
    """The figure as an element of a page, its colours replaced by the page's variables."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    with io.StringIO() as file, rc_context({"svg.hashsalt": salt}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        text = file.getvalue()
    element = text[text.index("<svg") :]
    for color, variable in _VARIABLES.items():
        element = element.replace(color, f"var({variable})")
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
