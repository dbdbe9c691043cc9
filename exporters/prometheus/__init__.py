"""Publishes metrics to Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ranker.metrics.exporters import Option, Running, Value

if TYPE_CHECKING:
    from ranker.metrics.families import Source
    from ranker.metrics.recorder import OfficeRecorder


class PrometheusExporter:
    """Answers scrapes at `/metrics`; see `ranker.metrics.exporters.Exporter`."""

    options = (
        Option(
            "metrics_port",
            9090,
            "Port for Prometheus' /metrics. 0: any free port; -1: no /metrics.",
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
        """Listens on the metrics port, unless that is -1."""
        port = int(settings["metrics_port"])
        if port < 0:
            return None
        from exporters.prometheus.server import PrometheusServer

        return PrometheusServer(source, port, str(settings["host"]))


exporter = PrometheusExporter()
