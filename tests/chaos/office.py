"""The office of `tests.chaos.server`, whose exporter also gives up sooner what has failed."""

from __future__ import annotations

from exporters.gcp_monitoring import writer
from ranker.process import office
from tests.chaos.server import LEAST_INTERVAL, allow_short_intervals


def main() -> None:
    allow_short_intervals()
    writer.MIN_INTERVAL = float(LEAST_INTERVAL)
    writer._CALL_SECONDS = 1.0
    writer._LONGEST_PAUSE = 2.0
    office.main()
