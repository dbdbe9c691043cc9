"""Publishes metrics to Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ranker.metrics.exporters import Option, Page, Running, Value

if TYPE_CHECKING:
    from ranker.metrics.families import Source
    from ranker.metrics.office_recorder import OfficeRecorder


class PrometheusExporter:
    """Answers scrapes at `/metrics`; see `ranker.metrics.exporters.Exporter`."""

    options = (
        Option(
            "metrics_port",
            9090,
            "Port for Prometheus' /metrics. 0: any free port; -1: none but the HTTP port.",
            -1,
            65535,
        ),
    )

    def start(
        self,
        source: Source,
        recorder: OfficeRecorder,  # noqa: ARG002  scrapes are not points that are sent
        settings: Mapping[str, Value],
    ) -> Running | None:
        """Makes the page that is scraped."""
        from exporters.prometheus.scrape import Scrapes

        port = int(settings["metrics_port"])
        return Running(pages=[Page("/metrics", Scrapes(source).read, "metrics_port", port)])


exporter = PrometheusExporter()
