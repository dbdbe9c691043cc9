"""Makes the dashboards of this folder from the catalogue of metrics: `make docs`.

A panel names metrics; what is asked of them follows from their kind: the rate of a counter, the
p50 and p99 of a histogram, the sum of a gauge over all pods.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from ranker.metrics import catalogue
from ranker.metrics.metric import Kind, Metric

FOLDER = Path(__file__).parent

UNITS = {"seconds": "s", "bytes": "bytes", "1": "percentunit", "processes": "none"}
"""Grafana's names of a catalogue's units; of a counter it is so many a second."""

SELECTOR = 'namespace=~"$namespace",pod=~"$pod"'
"""Which pods are shown, in Grafana; there is one dashboard a namespace elsewhere."""


@dataclass(frozen=True)
class Query:
    """One question to Prometheus.

    Attributes:
        text: in PromQL; `SELECTOR` stands in each of its selectors.
        legend: of its lines, with labels in braces.
    """

    text: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A chart.

    Attributes:
        title: what it shows.
        metrics: of which; those of a kind that is counted are shown as rates.
        by: the labels that make its lines.
        largest: whether a gauge's largest value is shown, and not the sum.
        mean: whether it is the mean.
        only: a further condition on the metrics' labels.
        plain: whether 1 is written as 1, and not as 100 %.
    """

    title: str
    metrics: tuple[Metric, ...]
    by: tuple[str, ...] = ()
    largest: bool = False
    mean: bool = False
    only: str = ""
    plain: bool = False

    @property
    def unit(self) -> str:
        """In Grafana's words."""
        first = self.metrics[0]
        unit = "short" if self.plain else UNITS.get(first.unit, "short")
        if first.kind is Kind.COUNTER:
            return "percentunit" if first.unit == "seconds" else "cps"
        return unit

    @property
    def description(self) -> str:
        """What the catalogue says of the metrics."""
        return "\n\n".join(f"`{metric.name}`: {metric.help}" for metric in self.metrics)

    def queries(self) -> Iterator[Query]:
        """What it asks."""
        for metric in self.metrics:
            own = "" if len(self.metrics) == 1 else _short(metric)
            yield from self._of(metric, own)

    def _of(self, metric: Metric, own: str) -> Iterator[Query]:
        labels = ", ".join(self.by)
        grouped = f" by ({labels})" if labels else ""
        legend = " ".join([*filter(None, [own]), *(f"{{{{{label}}}}}" for label in self.by)])
        where = "{" + ",".join(filter(None, (self.only, SELECTOR))) + "}"
        if metric.kind is Kind.HISTOGRAM:
            buckets = f"{metric.name}_bucket{where}"
            for share in (0.5, 0.99):
                groups = ", ".join(("le", *self.by))
                rates = f"sum by ({groups}) (rate({buckets}[$__rate_interval]))"
                text = f"histogram_quantile({share}, {rates})"
                yield Query(text, f"{legend} p{100 * share:g}".strip())
        elif metric.kind is Kind.COUNTER:
            text = f"sum{grouped} (rate({metric.name}{where}[$__rate_interval]))"
            yield Query(text, legend or "all")
        else:
            function = "max" if self.largest else "avg" if self.mean else "sum"
            yield Query(f"{function}{grouped} ({metric.name}{where})", legend or function)


def _short(metric: Metric) -> str:
    """A metric's name in a legend."""
    return metric.name.removeprefix("ranker_").removesuffix("_total").replace("_", " ")


OK = 'outcome="ok"'

ROWS: dict[str, tuple[Panel, ...]] = {
    "Traffic": (
        Panel("Requests a second, by status", (catalogue.REQUESTS,), ("code",)),
        Panel("Requests a second, by version", (catalogue.REQUESTS,), ("model", "version")),
        Panel("Requests a second, by caller", (catalogue.CALLER_REQUESTS,), ("caller", "code")),
        Panel("Latency in the server", (catalogue.REQUEST_DURATION,), only=OK),
        Panel(
            "Latency in the server, by version",
            (catalogue.REQUEST_DURATION,), ("model", "version"), only=OK,
        ),
        Panel("Candidates in a request", (catalogue.REQUEST_CANDIDATES,)),
        Panel("Candidates scored a second", (catalogue.CANDIDATES_SCORED,), ("model", "version")),
    ),
    "Not ranked": (
        Panel("Refused on arrival, by reason", (catalogue.SHED,), ("reason",)),
        Panel("Responses over HTTP, by status", (catalogue.HTTP_RESPONSES,), ("code",)),
        Panel("Dropped while they waited, by reason", (catalogue.EXPIRED,), ("reason",)),
        Panel("Taken of quotas, requests a second", (catalogue.CALLER_TAKEN,), ("caller",)),
        Panel("Taken of quotas, candidates a second", (catalogue.CALLER_CANDIDATES,), ("caller",)),
        Panel("Time that callers allow", (catalogue.DEADLINE_SLACK,)),
        Panel("Requests without a deadline", (catalogue.NO_DEADLINE,), ("model",)),
        Panel("Calls ended for what they took, by reason", (catalogue.RPCS_EVICTED,), ("reason",)),
        Panel(
            "Connections closed for what they did, by reason",
            (catalogue.CONNECTIONS_CLOSED,), ("reason",),
        ),
    ),
    "Queue and batches": (
        Panel("Candidates that wait", (catalogue.QUEUE_ROWS,)),
        Panel("Time in the queue", (catalogue.QUEUE_DURATION,)),
        Panel("Time of a batch", (catalogue.SCORING_DURATION,)),
        Panel("Candidates in a batch", (catalogue.BATCH_ROWS,)),
        Panel("Requests in a batch", (catalogue.BATCH_REQUESTS,)),
        Panel("Calls in progress", (catalogue.RPCS_IN_FLIGHT,)),
        Panel("Calls a second, by method", (catalogue.RPCS,), ("method",)),
    ),
    "Explanations": (
        Panel(
            "Candidates explained a second",
            (catalogue.CANDIDATES_EXPLAINED,), ("model", "version"),
        ),
        Panel("Time from scores to explanations", (catalogue.EXPLANATION_DURATION,)),
        Panel("Candidates to be explained", (catalogue.EXPLANATION_ROWS,)),
    ),
    "Workers": (
        Panel(
            "Utilization, the mean of all pods",
            (catalogue.WORKER_UTILIZATION, catalogue.ENGINE_UTILIZATION), mean=True,
        ),
        Panel(
            "Share of the time, by worker",
            (
                catalogue.WORKER_BUSY,
                catalogue.WORKER_WAIT,
                catalogue.ENGINE_BUSY,
                catalogue.ENGINE_LOAD,
            ),
            ("pod", "worker"),
        ),
        Panel("Workers", (catalogue.WORKERS, catalogue.WORKERS_SERVING)),
        Panel("Workers that died, a second", (catalogue.WORKER_RESTARTS,), ("pod",)),
    ),
    "Models": (
        Panel("Generation of each pod", (catalogue.MODEL_GENERATION,), ("pod",), largest=True),
        Panel("Switches of what is served", (catalogue.MODEL_SWITCHES,), ("outcome",)),
        Panel("Requests of a split", (catalogue.SPLIT_REQUESTS,), ("model", "version")),
        Panel(
            "Share of a split's units",
            (catalogue.SPLIT_SHARE,), ("model", "version"), mean=True,
        ),
        Panel("Units that were seen", (catalogue.SPLIT_UNITS,), ("model", "version")),
        Panel(
            "Is it split as configured? p below 0.001: no",
            (catalogue.SPLIT_P_VALUE,), ("model", "pod"), mean=True,
        ),
        Panel("Rollbacks by the guard", (catalogue.GUARD_ROLLBACKS,), ("model", "version")),
        Panel("Loads of models", (catalogue.MODEL_LOADS,), ("model", "version", "outcome")),
        Panel(
            "Time of the last load",
            (catalogue.MODEL_LOAD_DURATION,), ("model", "version"), largest=True,
        ),
    ),
    "Shadows": (
        Panel(
            "Overlap of the best ten",
            (catalogue.SHADOW_OVERLAP,), ("model", "version", "shadow_version"),
        ),
        Panel(
            "Rank distance, 1 - tau-b",
            (catalogue.SHADOW_DISTANCE,), ("model", "version", "shadow_version"),
        ),
        Panel(
            "Shift of the scores, in standard deviations",
            (catalogue.SHADOW_SHIFT,), ("model", "version", "shadow_version"),
        ),
        Panel("Lists that were compared", (catalogue.SHADOW_LISTS,), ("model", "shadow_version")),
        Panel("Lists that were not, by reason", (catalogue.SHADOW_DROPPED,), ("reason",)),
        Panel("Time spent on shadows", (catalogue.SHADOW_BUSY,), ("pod", "worker")),
    ),
    "Drift": (
        Panel(
            "Index of features: from 0.25 on, far from the training data",
            (catalogue.DRIFT_FEATURE_PSI,), ("model", "version", "feature"), mean=True, plain=True,
        ),
        Panel(
            "Index of the scores",
            (catalogue.DRIFT_SCORE_PSI,), ("model", "version"), mean=True, plain=True,
        ),
        Panel(
            "Share of candidates without a feature",
            (catalogue.DRIFT_FEATURE_MISSING,), ("model", "version", "feature"), mean=True,
        ),
        Panel("Candidates that were counted", (catalogue.DRIFT_ROWS,), ("model", "version")),
    ),
    "Processes": (
        Panel("CPU, in cores", (catalogue.PROCESS_CPU,), ("pod", "worker")),
        Panel(
            "Memory, and what each process may have",
            (catalogue.PROCESS_MEMORY, catalogue.MEMORY_LIMIT), ("worker",), largest=True,
        ),
        Panel("File descriptors", (catalogue.PROCESS_FDS,), ("worker",), largest=True),
        Panel("Share of the time in garbage collection", (catalogue.GC_PAUSE,), ("worker",)),
        Panel("Garbage collections", (catalogue.GC_COLLECTIONS,), ("generation",)),
    ),
    "GPU": (
        Panel("Utilization of GPUs", (catalogue.GPU_UTILIZATION,), mean=True),
        Panel("Memory of GPUs", (catalogue.GPU_MEMORY_USED, catalogue.GPU_MEMORY_TOTAL)),
    ),
    "What the server writes": (
        Panel("Points exported", (catalogue.EXPORT_POINTS,), ("exporter", "outcome")),
        Panel("Lines of the access log", (catalogue.ACCESS_LOG_LINES,), ("outcome",)),
        Panel("Spans of traces", (catalogue.TRACE_SPANS,), ("outcome",)),
        Panel("Records of the ranking log", (catalogue.RANKING_LOG_RECORDS,)),
        Panel("Written to the ranking log", (catalogue.RANKING_LOG_BYTES,)),
        Panel(
            "Lists that were not logged, by reason",
            (catalogue.RANKING_LOG_DROPPED,), ("reason",),
        ),
        Panel("Files of the ranking log", (catalogue.RANKING_LOG_FILES,), ("outcome",)),
    ),
}  # fmt: skip
"""The rows of the dashboard, and the panels in each."""

NOT_SHOWN = frozenset(
    {
        catalogue.MODEL_INFO, catalogue.TRANSPORT_INFO, catalogue.SIMD_INFO, catalogue.GPU_INFO,
        catalogue.MODEL_LABEL_INFO, catalogue.BUILD_INFO,  # facts that stay as they are
        catalogue.PROCESS_START,
    }
)  # fmt: skip
"""Metrics that are on no panel."""


def grafana() -> str:
    """The dashboard of Grafana."""
    source = DataSourceRef(type_val="prometheus", uid="${datasource}")
    board = (
        dashboard.Dashboard("Ranker")
        .uid("ranker")
        .tags(["ranker"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    )
    for name, source_metric in (("namespace", ""), ("pod", '{namespace=~"$namespace"}')):
        metric = f"{catalogue.WORKERS.name}{source_metric}"
        board.with_variable(
            dashboard.QueryVariable(name)
            .datasource(source)
            .query(f"label_values({metric}, {name})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    for title, panels in ROWS.items():
        board.with_row(dashboard.Row(title))
        for panel in panels:
            chart = (
                timeseries.Panel()
                .title(panel.title)
                .description(panel.description)
                .unit(panel.unit)
                .min(0)
                .datasource(source)
                .span(8)
                .height(7)
            )
            for number, query in enumerate(panel.queries()):
                asked = prometheus.Dataquery().expr(query.text).legend_format(query.legend)
                chart.with_target(asked.ref_id(chr(ord("A") + number)))
            board.with_panel(chart)
    return str(JSONEncoder(sort_keys=True, indent=1).encode(board.build())) + "\n"


_COLUMNS, _WIDTH, _HEIGHT = 48, 16, 12
"""Of the grid of Cloud Monitoring, and of a tile of it."""


def cloud_monitoring() -> str:
    """The dashboard of Google Cloud Monitoring, for metrics of Managed Service for Prometheus."""
    tiles: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS.items():
        head = {"title": title, "sectionHeader": {}}
        tiles.append({"yPos": y, "width": _COLUMNS, "height": 4, "widget": head})
        y += 4
        for number, panel in enumerate(panels):
            down, across = divmod(number, _COLUMNS // _WIDTH)
            place = {"xPos": across * _WIDTH, "yPos": y + down * _HEIGHT}
            size = {"width": _WIDTH, "height": _HEIGHT}
            tiles.append({**place, **size, "widget": _chart(panel)})
        y += -(-len(panels) // (_COLUMNS // _WIDTH)) * _HEIGHT
    board = {"displayName": "Ranker", "mosaicLayout": {"columns": _COLUMNS, "tiles": tiles}}
    return json.dumps(board, indent=1) + "\n"


def _chart(panel: Panel) -> dict[str, Any]:
    sets = [
        {
            "plotType": "LINE",
            "timeSeriesQuery": {"prometheusQuery": without_variables(query.text, "${__interval}")},
        }
        for query in panel.queries()
    ]
    return {"title": panel.title, "xyChart": {"dataSets": sets}}


def without_variables(text: str, interval: str) -> str:
    """A query without Grafana's variables: over all pods, with an interval."""
    text = text.replace("," + SELECTOR, "").replace("{" + SELECTOR + "}", "")
    return text.replace("$__rate_interval", interval)


PAGES: dict[str, Callable[[], str]] = {
    "grafana.json": grafana,
    "cloud-monitoring.json": cloud_monitoring,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
