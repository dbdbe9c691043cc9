"""Starts and ends the metrics exporters of a server, as its settings say."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from exporters.prometheus.server import PrometheusServer
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.reader import Reader
from ranker.metrics.recorder import PublisherRecorder
from ranker.process.settings import Settings

logger = logging.getLogger(__name__)


class Publisher:
    """The exporters of one server, whatever its number of processes.

    Args:
        aggregates: what they publish.
        settings: which of them run, and how.

    Raises:
        OSError: the metrics port can't be had.
        ImportError: GCP Monitoring is asked for, but the extra `gcp` is not installed.
    """

    def __init__(self, aggregates: Aggregates, settings: Settings) -> None:
        with ExitStack() as starting:
            reader = Reader(aggregates)
            starting.callback(reader.close)
            if settings.metrics_port >= 0:
                prometheus = PrometheusServer(
                    reader, host=settings.host, port=settings.metrics_port
                )
                starting.callback(prometheus.close)
                logger.info("metrics on port %d", prometheus.port)
            if settings.gcp_project:
                from exporters.gcp_monitoring import GcpMonitoringExporter

                gcp = GcpMonitoringExporter(
                    reader,
                    PublisherRecorder(aggregates),
                    settings.gcp_project,
                    settings.gcp_interval,
                    settings.gcp_emulator,
                )
                starting.callback(gcp.close)
                logger.info("metrics to GCP Monitoring, project %s", settings.gcp_project)
            self._running = starting.pop_all()

    def close(self) -> None:
        """Publishes what is left, and no more."""
        self._running.close()
