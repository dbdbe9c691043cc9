"""When to export, and what to do when it fails.

Writing time series is not idempotent, so a call that failed is not repeated:
the next export, an interval or more later, carries the counts of both, and only
gauges lack a point. What waits to be sent is therefore never more than one
snapshot, however long the API is away.
"""

from __future__ import annotations

import importlib
import logging
import random
import time
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from exporters.gcp_monitoring import MIN_INTERVAL, NAME
from ranker.metrics.catalogue import METRICS
from ranker.metrics.families import Source
from ranker.metrics.office_recorder import OfficeRecorder

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError

    from exporters.gcp_monitoring.api import MonitoringApi

logger = logging.getLogger(__name__)

_CALL_SECONDS = 10.0
_LONGEST_PAUSE = 600.0


class GcpMonitoringExporter:
    """Writes all metrics once per interval, from a thread of its own.

    Nothing that the API does is felt outside: it may be away, hang, throttle or
    refuse. What became of the points is counted in `ranker_export_points_total`.
    """

    def __init__(
        self,
        source: Source,
        recorder: OfficeRecorder,
        project: str,
        interval: float = 60.0,
        emulator: str = "",
    ) -> None:
        """Starts to export.

        Args:
            source: what to export.
            recorder: where to count the points exported, failed and dropped.
            project: the id of the project to write to.
            interval: seconds between two exports.
            emulator: the address of a stand-in for the API, spoken to in plain
                text and without credentials; empty for the API itself.

        Raises:
            ValueError: `interval` is below `MIN_INTERVAL`.
            ImportError: the extra `gcp` is not installed.
        """
        if not interval >= MIN_INTERVAL:
            raise ValueError(f"interval: expected at least {MIN_INTERVAL:g} s, got {interval:g}")
        try:
            importlib.import_module("google.cloud.monitoring_v3")
        except ImportError as error:
            raise ImportError("GCP Monitoring needs what the extra gcp brings") from error
        self._source = source
        self._recorder = recorder
        self._project = project
        self._interval = interval
        self._emulator = emulator
        self._api: MonitoringApi | None = None
        self._resource: Any = None
        self._last_end = 0.0
        self._began = time.monotonic()
        self._complained = False
        self._closing = Event()
        self._give_up_at = float("inf")
        self._thread = Thread(target=self._run, name="gcp-monitoring", daemon=True)
        self._thread.start()
        logger.info("metrics to GCP Monitoring, project %s", project)

    def close(self, limit: float = 15.0) -> None:
        """Exports what was counted since the last time, then stops.

        The last points too keep their distance from those before, also from
        those that a process before this one may have written. That may mean to
        wait for up to `MIN_INTERVAL`.

        Args:
            limit: seconds that this may take; then the last export is given up.
        """
        self._give_up_at = time.monotonic() + limit
        self._closing.set()
        self._thread.join(limit)
        if self._thread.is_alive():
            logger.warning("gave up the last export to GCP Monitoring after %g s", limit)
            if self._api is not None:
                self._api.close()

    def _run(self) -> None:
        # This process may replace another one that has just written points of the same series.
        # And servers that start together shall not export together.
        pause = MIN_INTERVAL + random.uniform(0.0, 1.0) * self._interval
        failures = 0
        while not self._closing.wait(pause):
            failures = 0 if self._export() else failures + 1
            pause = pause_after(failures, self._interval)
        while (wait := self._least_wait()) > 0:
            if wait >= self._give_up_at - time.monotonic():
                logger.warning("no time left for a last export to GCP Monitoring")
                return
            time.sleep(wait)
        self._export()

    def _least_wait(self) -> float:
        """Seconds until points may be written: some after the last ones, and after the start."""
        since = min(time.time() - self._last_end, time.monotonic() - self._began)
        return MIN_INTERVAL - since

    def _export(self) -> bool:
        """Reads and writes everything once. Returns whether to go on as usual."""
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError

        try:
            error = self._write(self._connect())
        except GoogleAPICallError as failure:
            self._complain(failure.message)
            return False
        except (GoogleAuthError, OSError) as failure:  # no descriptor is left, say
            self._complain(str(failure))
            return False
        except Exception:
            logger.exception("a bug in exporting to GCP Monitoring")
            return False
        if error is not None:
            self._complain(error.message)
        elif self._complained:
            logger.info("exporting to GCP Monitoring works again")
            self._complained = False
        return True

    def _connect(self) -> MonitoringApi:
        """The API, ready to be written to; does at first what needs doing once."""
        if self._api is not None:
            return self._api
        from exporters.gcp_monitoring.api import MonitoringApi
        from exporters.gcp_monitoring.points import descriptor
        from exporters.gcp_monitoring.resource import detect

        self._resource = detect(self._project)
        api = MonitoringApi(self._project, self._emulator)
        try:
            api.create_descriptors(map(descriptor, METRICS), self._timeout())
        except Exception:
            api.close()
            raise
        self._api = api
        return api

    def _write(self, api: MonitoringApi) -> GoogleAPICallError | None:
        """Writes a snapshot in as many calls as it takes.

        Returns:
            The last refusal of some of the points, if there was one.

        Raises:
            GoogleAPICallError: a call failed, and further ones would too.
        """
        from google.protobuf.timestamp_pb2 import Timestamp

        from exporters.gcp_monitoring.api import MAX_SERIES
        from exporters.gcp_monitoring.points import time_series

        now = time.time()
        if now < max(self._last_end + MIN_INTERVAL, self._source.started):
            logger.warning("the clock was set back; waiting for it to catch up")
            return None
        end = Timestamp()
        end.FromNanoseconds(round(now * 1e9))
        families = self._source.snapshot()
        series = list(time_series(families, self._resource, self._source.started, end))
        refusal = None
        while series:
            batch, series = series[:MAX_SERIES], series[MAX_SERIES:]
            try:
                written, error = api.write(batch, self._timeout())
            except Exception:
                self._last_end = now  # some may have been written
                self._count("failed", len(batch))
                self._count("dropped", len(series))
                raise
            # Of a clock that is far ahead the API takes no point. Then it is as if there had been
            # none, and when the clock is right again the next ones need not wait for that time.
            if written:
                self._last_end = now
            refusal = error or refusal
            self._count("exported", written)
            self._count("failed", len(batch) - written)
        return refusal

    def _timeout(self) -> float:
        """Seconds that the next call may take."""
        return max(0.01, min(_CALL_SECONDS, self._give_up_at - time.monotonic()))

    def _count(self, outcome: str, points: int) -> None:
        self._recorder.points(NAME, outcome, points)

    def _complain(self, reason: str) -> None:
        """Logs the first failure of a row: an API that is away says so every time."""
        logger.log(
            logging.DEBUG if self._complained else logging.WARNING,
            "exporting to GCP Monitoring failed: %s",
            reason,
        )
        self._complained = True


def pause_after(failures: int, interval: float) -> float:
    """Seconds until the next export: the interval, or longer and jittered after failures.

    Args:
        failures: how many exports in a row have failed.
        interval: seconds between two exports that succeed.
    """
    doubled = interval * 2 ** min(failures, 10)
    return random.uniform(interval, max(interval, min(doubled, _LONGEST_PAUSE)))
