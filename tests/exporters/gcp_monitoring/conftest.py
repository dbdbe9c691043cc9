"""What the exporter's tests share: a server that counts, and a local MetricService.

Without the extra `gcp` the tests are skipped, but this is imported all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from exporters.gcp_monitoring.writer import GcpMonitoringExporter
from ranker.metrics import catalogue as catalog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.families import Distribution
from ranker.metrics.metric import Kind
from ranker.metrics.office_recorder import OfficeRecorder
from ranker.metrics.reader import Reader
from ranker.metrics.snapshot import snapshot
from tests.metrics.support import RANK, Worker, new_aggregates, value
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.exporters.gcp_monitoring.metric_service import LocalMetricService

INTERVAL = 0.2
# Enough of them for more series than one call may write.
MODELS = tuple((f"model-{i}", "1") for i in range(24))


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of a fifth of a second, and a metadata server that is not there."""
    monkeypatch.setattr("exporters.gcp_monitoring.writer.MIN_INTERVAL", INTERVAL)
    monkeypatch.setattr("exporters.gcp_monitoring.writer._LONGEST_PAUSE", 2 * INTERVAL)
    monkeypatch.setattr("exporters.gcp_monitoring.writer._CALL_SECONDS", PATIENCE)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def service() -> Iterator[LocalMetricService]:
    from tests.exporters.gcp_monitoring.metric_service import LocalMetricService

    # As of the real ones, the exporter's interval is twice what the API asks for.
    service = LocalMetricService(spacing=INTERVAL / 2)
    yield service
    service.stop()


@dataclass
class Server:
    """What a server has: workers that record, and something to read."""

    aggregates: Aggregates
    workers: list[Worker]
    reader: Reader
    office: OfficeRecorder

    def export(self, address: str, project: str = "shop") -> GcpMonitoringExporter:
        return GcpMonitoringExporter(self.reader, self.office, project, INTERVAL, address)

    def work(self, rounds: int = 1) -> None:
        for i in range(rounds * len(MODELS)):
            model, worker = i % len(MODELS), self.workers[i % 2]
            worker.rpc_started()
            worker.batch_scored(model, 10, 1, [0.001], 0.002)
            worker.request_finished(model, (0, 0, 3, 8)[i % 4], 10, 0.05, 0.001 * (i % 7))
            worker.rpc_finished(RANK, 0)

    def points(self, outcome: str) -> float:
        counted = value(snapshot(self.aggregates), catalog.EXPORT_POINTS, "gcp_monitoring", outcome)
        assert isinstance(counted, float)
        return counted


@pytest.fixture
def server() -> Iterator[Server]:
    aggregates = new_aggregates(MODELS, workers=2)
    workers = [Worker(aggregates, worker) for worker in range(2)]
    reader = Reader(aggregates)
    server = Server(aggregates, workers, reader, OfficeRecorder(aggregates))
    yield server
    reader.close()
    for worker in server.workers:
        worker.close()


def assert_exact(server: Server, service: LocalMetricService) -> None:
    """The service's newest points are what the server has counted, all of it."""
    from exporters.gcp_monitoring.points import metric_type

    own = {catalog.EXPORT_POINTS.name}  # it counted the last points after it read itself
    process = {
        m.name
        for m in catalog.METRICS
        if m.derived or m is catalog.PROCESS_CPU or m.name.startswith("ranker_gc_")
    }
    compared = 0
    for family in server.reader.snapshot():
        if family.metric.name in own | process or family.metric.kind is Kind.INFO:
            continue
        for sample in family.samples:
            labels = dict(zip(family.metric.labels, sample.labels, strict=True))
            counted = sample.value
            count = counted.count if isinstance(counted, Distribution) else counted
            if count == 0 and family.metric.kind is not Kind.GAUGE:
                continue
            found = service.latest(metric_type(family.metric), **labels)
            if isinstance(counted, Distribution):
                assert tuple(found.bucket_counts) == counted.counts
                assert found.mean * found.count == pytest.approx(counted.sum)
            else:
                assert found == counted
            compared += 1
    assert compared > 100
