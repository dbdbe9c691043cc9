"""The `ranker` command, whose exporter to Google Cloud writes every second instead of every ten.

A test that waits for it would otherwise take as long.
"""

from __future__ import annotations

import dataclasses

import exporters.gcp_monitoring as gcp
from ranker.metrics.exporters import Option

LEAST_INTERVAL = 1


def allow_short_intervals() -> None:
    """Has the exporter take intervals of a second, in this process."""

    def changed(option: Option) -> Option:
        least = LEAST_INTERVAL if option.name == "gcp_interval" else option.least
        return dataclasses.replace(option, least=least)

    gcp.GcpExporter.options = tuple(map(changed, gcp.GcpExporter.options))
    gcp.MIN_INTERVAL = float(LEAST_INTERVAL)


if __name__ == "__main__":
    allow_short_intervals()
    from ranker.cli.main import main
    from ranker.process import supervisor
    from ranker.process.child import Child

    class QuickChild(Child):
        def __init__(self, module, *arguments) -> None:
            quick = module == "ranker.process.office"
            super().__init__("tests.chaos.office" if quick else module, *arguments)

    supervisor.Child = QuickChild
    main()
