"""The exporter, through the real client library, against the local MetricService."""

import sys
import time
from itertools import pairwise

import pytest

pytest.importorskip("google.cloud.monitoring_v3", reason="the extra gcp is not installed")

from google.api.metric_pb2 import MetricDescriptor

from exporters.gcp_monitoring.points import descriptor, metric_type
from exporters.gcp_monitoring.writer import GcpMonitoringExporter
from ranker.metrics import catalogue as catalog
from ranker.metrics.snapshot import snapshot
from tests.exporters.gcp_monitoring.conftest import INTERVAL, MODELS, Server, assert_exact
from tests.exporters.gcp_monitoring.metric_service import LocalMetricService
from tests.metrics.support import Worker, value
from tests.waiting import PATIENCE, wait_until


def test_every_count_arrives(server: Server, service: LocalMetricService):
    exporter = server.export(service.address)
    server.work(rounds=3)
    wait_until(lambda: service.series, "the first export")

    # A worker dies in the middle of a request and is replaced.
    server.workers[0].rpc_started()
    server.workers[0].close()
    server.aggregates.slots[0].vacate()
    server.workers[0] = Worker(server.aggregates, 0)
    server.work(rounds=2)

    exporter.close()
    assert service.refused == []
    assert_exact(server, service)
    assert len(service.series) > 200
    assert service.calls.count("CreateTimeSeries") >= 4
    written = sum(len(series.points) for series in service.series.values())
    assert server.points("exported") == written
    assert server.points("failed") == server.points("dropped") == 0


def test_all_points_of_a_process_start_together(server: Server, service: LocalMetricService):
    server.work()
    exporter = server.export(service.address)
    wait_until(lambda: service.calls.count("CreateTimeSeries") >= 6, "three exports")
    exporter.close()
    starts = {
        point.interval.start_time.ToNanoseconds()
        for series in service.series.values()
        for point in series.points
        if series.kind == MetricDescriptor.CUMULATIVE
    }
    assert starts == {round(server.reader.started * 1e9)}


def test_a_version_that_comes_back_begins_anew(server: Server, service: LocalMetricService):
    """The service refuses a value below the last one with the same start."""
    exporter = server.export(service.address)
    server.work(rounds=3)

    def exports() -> int:
        return service.calls.count("CreateTimeSeries")

    wait_until(lambda: exports() >= 4, "two exports")
    server.aggregates.clear_model(0)
    since = exports()
    wait_until(lambda: exports() >= since + 4, "two more")
    server.aggregates.begin_model(0)
    server.aggregates.name_model(0, MODELS[0])
    server.work(rounds=1)
    since = exports()
    wait_until(lambda: exports() >= since + 4, "two more")
    exporter.close()
    server.export(service.address).close()  # which writes a last time
    assert service.refused == []
    starts = {
        point.interval.start_time.ToNanoseconds()
        for series in service.series.values()
        for point in series.points
        if series.kind == MetricDescriptor.CUMULATIVE
    }
    assert len(starts) > 1


def test_a_task_of_its_own(server: Server, service: LocalMetricService):
    server.export(service.address).close()
    resources = {(type_, labels) for _, _, type_, labels in service.series}
    [(type_, labels)] = resources
    assert type_ == "generic_task"
    assert ("project_id", "shop") in labels


def test_descriptors_are_created_once(server: Server, service: LocalMetricService):
    server.export(service.address).close()
    assert service.descriptors.keys() == {metric_type(metric) for metric in catalog.METRICS}
    service.calls.clear()
    server.export(service.address).close()
    assert "CreateMetricDescriptor" not in service.calls
    assert service.refused == []


def test_descriptor_that_grew_is_created_again(server: Server, service: LocalMetricService):
    old = descriptor(catalog.REQUESTS)
    removed = old.labels.pop()
    service.descriptors[old.type] = old
    server.work()
    server.export(service.address).close()
    assert removed in service.descriptors[old.type].labels
    assert service.refused == []


def test_contradicting_descriptor_costs_its_own_metric_only(
    server: Server, service: LocalMetricService, caplog: pytest.LogCaptureFixture
):
    old = descriptor(catalog.REQUESTS)
    old.value_type = MetricDescriptor.DOUBLE
    service.descriptors[old.type] = old
    server.work()
    server.export(service.address).close()
    assert f"descriptor of {old.type} refused" in caplog.text
    assert (
        service.latest(metric_type(catalog.CANDIDATES_SCORED), model="model-0", version="1") == 10
    )
    requests = value(snapshot(server.aggregates), catalog.REQUESTS, "model-0", "1", "OK")
    assert requests == 1
    assert server.points("failed") == len(service.refused) > 0
    assert {reason.partition(":")[0] for reason in service.refused} == {old.type}


def test_last_export_keeps_its_distance(server: Server, service: LocalMetricService):
    """Right after an export, `close` waits."""
    exporter = server.export(service.address)
    for _ in range(3):
        before = service.calls.count("CreateTimeSeries")
        wait_until(lambda n=before: service.calls.count("CreateTimeSeries") > n, "an export")
    server.work()
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []
    for series in service.series.values():
        ends = [point.interval.end_time.ToNanoseconds() for point in series.points]
        assert all(b - a >= INTERVAL * 1e9 - 1e4 for a, b in pairwise(ends))


@pytest.mark.parametrize("ends_at_once", [True, False], ids=["ends-at-once", "goes-on"])
def test_the_first_export_keeps_its_distance_from_the_last_of_a_process_before(
    server: Server,
    service: LocalMetricService,
    monkeypatch: pytest.MonkeyPatch,
    ends_at_once: bool,
):
    """An office was killed right after an export, and another one takes its place."""
    server.export(service.address).close()
    monkeypatch.setattr("random.uniform", lambda least, _: least)
    exporter = server.export(service.address)
    before = service.calls.count("CreateTimeSeries")
    if not ends_at_once:
        wait_until(lambda: service.calls.count("CreateTimeSeries") > before, "an export")
    exporter.close()
    assert service.refused == []
    assert service.calls.count("CreateTimeSeries") > before


def test_no_time_for_a_last_export(
    server: Server,
    service: LocalMetricService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    exporter = server.export(service.address)
    wait_until(lambda: server.points("exported"), "an export")
    monkeypatch.setattr("exporters.gcp_monitoring.writer.MIN_INTERVAL", 3600.0)
    exporter.close(limit=PATIENCE)
    assert not exporter._thread.is_alive()
    assert "no time left for a last export" in caplog.text
    assert service.refused == []


def test_clock_set_back_writes_nothing_until_it_has_caught_up(
    server: Server,
    service: LocalMetricService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    server.work()
    exporter = server.export(service.address)
    wait_until(lambda: server.points("exported"), "an export")
    real = time.time
    monkeypatch.setattr("exporters.gcp_monitoring.writer.time.time", lambda: real() - 60)
    wait_until(lambda: "clock was set back" in caplog.text, "an export that sees it")
    monkeypatch.setattr("exporters.gcp_monitoring.writer.time.time", real)
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []


def test_missing_extra_is_named(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "google.cloud.monitoring_v3", None)
    with pytest.raises(ImportError, match="what the extra gcp brings"):
        server.export("")


@pytest.mark.parametrize("interval", [0.0, 9.99, float("nan")])
def test_short_interval_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, interval: float
):
    monkeypatch.undo()
    with pytest.raises(ValueError, match="interval: expected at least 10 s"):
        GcpMonitoringExporter(server.reader, server.office, "shop", interval)
