"""Starts and ends the metrics exporters of a server, as its settings say."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from exporters.aggregates import Aggregates
from exporters.prometheus import PrometheusServer
from exporters.reader import Reader
from ranker.config import Settings

logger = logging.getLogger(__name__)


class Publisher:
    """The exporters of one server, whatever its number of processes.

    Args:
        aggregates: what they publish.
        settings: which of them run, and how.

    Raises:
        OSError: the metrics port can't be had.
    """

    def __init__(self, aggregates: Aggregates, settings: Settings) -> None:
        self._running = ExitStack()
        reader = Reader(aggregates)
        self._running.callback(reader.close)
        if settings.metrics_port >= 0:
            try:
                prometheus = PrometheusServer(
                    reader, host=settings.host, port=settings.metrics_port
                )
            except OSError:
                self.close()
                raise
            self._running.callback(prometheus.close)
            logger.info("metrics on port %d", prometheus.port)

    def close(self) -> None:
        """Publishes no more."""
        self._running.close()
