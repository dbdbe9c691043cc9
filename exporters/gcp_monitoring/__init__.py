"""Publishes metrics to Google Cloud Monitoring; needs the extra `gcp`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ranker.metrics.exporters import Option, Running, Value

if TYPE_CHECKING:
    from ranker.metrics.families import Source
    from ranker.metrics.office_recorder import OfficeRecorder

NAME = "gcp_monitoring"

MIN_INTERVAL = 10.0
"""The least seconds between two points of one series; the API's own limit is 5."""


class GcpExporter:
    """Writes metrics once per interval; see `ranker.metrics.exporters.Exporter`."""

    options = (
        Option(
            "gcp_project",
            "",
            "Google Cloud project to write metrics to, in Cloud Monitoring. Empty: none.",
        ),
        Option("gcp_interval", 60.0, "Seconds between two writes to it.", int(MIN_INTERVAL)),
        Option("gcp_emulator", "", "Address to write to in place of Google's, for tests."),
    )

    def start(
        self, source: Source, recorder: OfficeRecorder, settings: Mapping[str, Value]
    ) -> Running | None:
        """Starts to export, if there is a project."""
        project = str(settings["gcp_project"])
        if not project:
            return None
        from exporters.gcp_monitoring.writer import GcpMonitoringExporter

        started = GcpMonitoringExporter(
            source,
            recorder,
            project,
            float(settings["gcp_interval"]),
            str(settings["gcp_emulator"]),
        )
        return Running(close=started.close)


exporter = GcpExporter()
