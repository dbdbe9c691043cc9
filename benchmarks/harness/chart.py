"""Charts as SVG, by Vega-Altair: they need nothing to be shown, on light and dark pages alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

INK = "#7d8590"
"""Of texts and axes: readable on white and on nearly black."""
STRONG, WEAK = "#2f81f7", "#8b949e"

Named = Mapping[str, Mapping[str, float]]


def bars(title: Sequence[str], groups: Named, *, highlight: str, unit: str) -> str:
    """Horizontal bars by name in groups by name, each group with a scale of its own.

    The first line of the title is the largest; the bar of the name `highlight` is the strong one.
    """
    values = [
        {"group": group, "name": name, "length": length, "text": f"{length:,.0f} {unit}"}
        for group, named in groups.items()
        for name, length in named.items()
    ]
    names = list(dict.fromkeys(str(value["name"]) for value in values))
    axis = alt.Axis(labelLimit=250, ticks=False)
    base = alt.Chart().encode(
        x=alt.X("length:Q", title=None, axis=None),
        y=alt.Y("name:N", sort=names, title=None, axis=axis),
    )
    color = alt.condition(alt.datum.name == highlight, alt.value(STRONG), alt.value(WEAK))
    drawn = base.mark_bar(cornerRadiusEnd=2).encode(color=color)
    texts = base.mark_text(align="left", dx=4, color=INK).encode(text="text:N")
    header = alt.Header(title=None, orient="top", labelAnchor="start", labelFontWeight="bold")
    chart = (
        alt.layer(drawn, texts, data=_data(values))
        .properties(width=430, height=22 * len(names))
        .facet(alt.Facet("group:N", sort=list(groups), header=header), columns=1)
        .resolve_scale(x="independent")
        .properties(
            title=alt.TitleParams(title[0], subtitle=list(title[1:]), anchor="start", offset=10)
        )
    )
    return _svg(chart)


def lines(
    title: str, axes: tuple[str, str], series: Mapping[str, Sequence[tuple[float, float]]],
    mark: float,
) -> str:  # fmt: skip
    """Lines of points by name, on a logarithmic scale, with a dashed line at an x (0: none)."""
    values = [{"name": name, "x": x, "y": y} for name, points in series.items() for x, y in points]
    drawn = alt.Chart(_data(values)).mark_line(point=True)
    drawn = drawn.encode(
        x=alt.X("x:Q", title=axes[0]),
        y=alt.Y("y:Q", title=axes[1], scale=alt.Scale(type="log")),
        color=alt.Color("name:N", title=None, sort=list(series)),
    )
    marks = alt.Chart(_data([{"x": mark}] if mark else [])).mark_rule(strokeDash=[5, 4], color=INK)
    both = alt.layer(drawn, marks.encode(x="x:Q"))
    return _svg(both.properties(title=title, width=760, height=260))


def _data(values: list[dict[str, Any]]) -> Any:
    return alt.Data(values=values)  # type: ignore[no-untyped-call]


def _svg(chart: Any) -> str:
    words = {"labelColor": INK, "titleColor": INK, "gridColor": INK, "gridOpacity": 0.25}
    styled = (
        chart.configure(background="transparent", font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**words, domainColor=INK, tickColor=INK)
        .configure_legend(labelColor=INK)
        .configure_header(labelColor=INK)
        .configure_title(color=INK, subtitleColor=INK, fontSize=15, subtitleFontSize=12)
    )
    svg: str = vl_convert.vegalite_to_svg(styled.to_json())
    return svg + "\n"
