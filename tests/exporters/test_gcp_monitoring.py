"""The exporter, through the real client library, against the local MetricService."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("google.cloud.monitoring_v3", reason="the extra gcp is not installed")

import grpc
from google.api.metric_pb2 import MetricDescriptor
from hypothesis import given
from hypothesis import strategies as st

from exporters import catalog
from exporters.aggregates import Aggregates, Layout
from exporters.families import Distribution
from exporters.gcp_monitoring import GcpMonitoringExporter
from exporters.gcp_monitoring.exporter import pause_after
from exporters.gcp_monitoring.points import descriptor, metric_type
from exporters.metric import Kind, Metric
from exporters.reader import Reader
from exporters.recorder import PublisherRecorder, Recorder
from tests.exporters.metric_service import LocalMetricService, fail, hang
from tests.exporters.support import RANK, value

INTERVAL = 0.2
WAIT_SECONDS = 30
# Enough of them for more series than one call may write.
LAYOUT = Layout(tuple((f"model-{i}", "1") for i in range(24)), (RANK,), workers=2)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of a fifth of a second, and a metadata server that is not there."""
    monkeypatch.setattr("exporters.gcp_monitoring.exporter.MIN_INTERVAL", INTERVAL)
    monkeypatch.setattr("exporters.gcp_monitoring.exporter._LONGEST_PAUSE", 2 * INTERVAL)
    monkeypatch.setattr("exporters.gcp_monitoring.exporter._CALL_SECONDS", 1.0)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def service() -> Iterator[LocalMetricService]:
    # As of the real ones, the exporter's interval is twice what the API asks for.
    service = LocalMetricService(spacing=INTERVAL / 2)
    yield service
    service.stop()


@dataclass
class Server:
    """What a server has: workers that record, and something to read."""

    aggregates: Aggregates
    workers: list[Recorder]
    reader: Reader
    publisher: PublisherRecorder

    def export(self, address: str, project: str = "shop") -> GcpMonitoringExporter:
        return GcpMonitoringExporter(self.reader, self.publisher, project, INTERVAL, address)

    def work(self, rounds: int = 1) -> None:
        for i in range(rounds * len(LAYOUT.models)):
            model, worker = i % len(LAYOUT.models), self.workers[i % 2]
            worker.rpc_started()
            worker.batch_scored(model, 10, 1, [0.001], 0.002)
            worker.request_finished(model, (0, 0, 3, 8)[i % 4], 10, 0.05, 0.001 * (i % 7))
            worker.rpc_finished(RANK, 0)

    def points(self, outcome: str) -> float:
        counted = value(
            self.aggregates.snapshot(), catalog.EXPORT_POINTS, "gcp_monitoring", outcome
        )
        assert isinstance(counted, float)
        return counted


@pytest.fixture
def server() -> Iterator[Server]:
    aggregates = Aggregates.private(LAYOUT)
    workers = [Recorder(aggregates, worker) for worker in range(2)]
    reader = Reader(aggregates)
    server = Server(aggregates, workers, reader, PublisherRecorder(aggregates))
    yield server
    reader.close()
    for worker in server.workers:
        worker.close()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s in vain for {what}"
        time.sleep(0.01)


def assert_exact(server: Server, service: LocalMetricService) -> None:
    """The service's newest points are what the server has counted, all of it."""
    own = {catalog.EXPORT_POINTS.name}  # it counted the last points after it read itself
    process = {m.name for m in catalog.METRICS if m.derived or m.name.startswith("ranker_gc_")}
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


def test_every_count_arrives(server: Server, service: LocalMetricService):
    exporter = server.export(service.address)
    server.work(rounds=3)
    until(lambda: service.series, "the first export")

    # A worker dies in the middle of a request and is replaced.
    server.workers[0].rpc_started()
    server.workers[0].close()
    server.aggregates.vacate(0)
    server.workers[0] = Recorder(server.aggregates, 0)
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
    until(lambda: service.calls.count("CreateTimeSeries") >= 6, "three exports")
    exporter.close()
    starts = {
        point.interval.start_time.ToNanoseconds()
        for series in service.series.values()
        for point in series.points
        if series.kind == MetricDescriptor.CUMULATIVE
    }
    assert starts == {round(server.reader.started * 1e9)}


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
    time.sleep(INTERVAL)  # it is the same task, and its points keep their distance too
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
    requests = value(server.aggregates.snapshot(), catalog.REQUESTS, "model-0", "1", "OK")
    assert requests == 1
    assert server.points("failed") == len(service.refused) > 0
    assert {reason.partition(":")[0] for reason in service.refused} == {old.type}


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.PERMISSION_DENIED,
    ],
    ids=lambda code: code.name,
)
def test_failed_call_is_made_up_for(
    server: Server, service: LocalMetricService, code: grpc.StatusCode
):
    server.work()
    service.faults += [fail(code)] * 2
    exporter = server.export(service.address)
    until(lambda: service.series, "an export after the failures")
    server.work()
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []
    assert server.points("failed") == 400  # the first call of two exports
    assert server.points("dropped") > 0  # and what would have followed


def test_lost_answer_is_not_written_twice(server: Server, service: LocalMetricService):
    server.work()
    service.lost_answers = 2
    exporter = server.export(service.address)
    until(lambda: server.points("exported"), "an export after the failures")
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []


def test_partial_refusal_is_counted(server: Server, service: LocalMetricService):
    service.poisoned.add(metric_type(catalog.BATCH_ROWS))
    server.work()
    exporter = server.export(service.address)
    until(lambda: server.points("failed"), "the first export")
    written = sum(len(series.points) for series in service.series.values())
    failed = server.points("failed")
    assert failed % len(LAYOUT.models) == 0
    assert server.points("exported") >= written - failed
    service.poisoned.clear()
    exporter.close()
    assert_exact(server, service)


def test_hanging_api_delays_nobody(
    server: Server, service: LocalMetricService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("exporters.gcp_monitoring.exporter._CALL_SECONDS", 60.0)
    released = threading.Event()
    service.faults.append(hang(released))
    exporter = server.export(service.address)
    until(lambda: not service.faults, "the call that hangs")
    try:
        server.work(rounds=10)
        families = server.reader.snapshot()
        assert value(families, catalog.CANDIDATES_SCORED, "model-0", "1") == 100
        began = time.monotonic()
        exporter.close(limit=0.5)
        assert time.monotonic() - began < 5
    finally:
        released.set()
    exporter._thread.join(WAIT_SECONDS)  # the connection was cut under it
    assert not exporter._thread.is_alive()


def test_call_that_hangs_is_given_up(server: Server, service: LocalMetricService):
    released = threading.Event()
    service.faults.append(hang(released))
    server.work()
    exporter = server.export(service.address)
    until(lambda: service.series, "an export after the one that hangs")
    released.set()
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []


def test_cut_connection_is_made_up_for(server: Server, service: LocalMetricService):
    released = threading.Event()
    service.faults.append(hang(released))
    server.work()
    exporter = server.export(service.address)
    until(lambda: not service.faults, "a call to cut")
    service.stop()
    released.set()
    until(lambda: server.points("failed"), "the failure")
    service.start()
    until(lambda: service.series, "an export over a new connection")
    server.work()
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []


def test_dead_api_is_logged_once_and_does_not_hold_the_end_up(
    server: Server, service: LocalMetricService, caplog: pytest.LogCaptureFixture
):
    service.stop()
    caplog.set_level(logging.WARNING)
    attempts = []
    exporter = server.export(service.address)
    write = exporter._export

    def counted() -> bool:
        attempts.append(1)
        return write()

    exporter._export = counted  # type: ignore[method-assign]
    until(lambda: len(attempts) >= 3, "three attempts")
    began = time.monotonic()
    exporter.close(limit=5)
    assert time.monotonic() - began < 5
    assert not exporter._thread.is_alive()
    messages = [r.message for r in caplog.records if "GCP Monitoring" in r.message]
    assert len(messages) == 1


def test_last_export_keeps_its_distance(server: Server, service: LocalMetricService):
    """Right after an export, `close` waits."""
    exporter = server.export(service.address)
    for _ in range(3):
        before = service.calls.count("CreateTimeSeries")
        until(lambda n=before: service.calls.count("CreateTimeSeries") > n, "an export")
    server.work()
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []
    for series in service.series.values():
        ends = [point.interval.end_time.ToNanoseconds() for point in series.points]
        assert all(b - a >= INTERVAL * 1e9 - 1e4 for a, b in pairwise(ends))


def test_no_time_for_a_last_export(
    server: Server,
    service: LocalMetricService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    exporter = server.export(service.address)
    until(lambda: server.points("exported"), "an export")
    monkeypatch.setattr("exporters.gcp_monitoring.exporter.MIN_INTERVAL", 3600.0)
    exporter.close(limit=2)
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
    until(lambda: server.points("exported"), "an export")
    real = time.time
    monkeypatch.setattr("exporters.gcp_monitoring.exporter.time.time", lambda: real() - 60)
    until(lambda: "clock was set back" in caplog.text, "an export that sees it")
    monkeypatch.setattr("exporters.gcp_monitoring.exporter.time.time", real)
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []


def test_missing_credentials_are_logged_and_no_reason_to_die(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/does/not/exist.json")
    exporter = server.export("")
    until(lambda: "/does/not/exist.json" in caplog.text, "the complaint")
    exporter.close(limit=10)
    assert not exporter._thread.is_alive()


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
        GcpMonitoringExporter(server.reader, server.publisher, "shop", interval)


@given(st.integers(0, 10_000), st.floats(10, 3600))
def test_pause_grows_with_failures_within_limits(failures: int, interval: float):
    pause = pause_after(failures, interval)
    assert interval <= pause <= max(interval, min(interval * 2.0 ** min(failures, 10), 600))


@pytest.mark.parametrize("metric", catalog.METRICS, ids=lambda metric: metric.name)
def test_descriptor(metric: Metric):
    made = descriptor(metric)
    assert made.type.startswith("custom.googleapis.com/ranker/")
    cumulative = metric.kind in (Kind.COUNTER, Kind.HISTOGRAM)
    assert (made.metric_kind == MetricDescriptor.CUMULATIVE) == cumulative
    histogram = metric.kind is Kind.HISTOGRAM
    assert (made.value_type == MetricDescriptor.DISTRIBUTION) == histogram
    fraction = metric.unit == "seconds" or metric.name.endswith("_ratio")
    if not histogram:
        expected: Any = MetricDescriptor.DOUBLE if fraction else MetricDescriptor.INT64
        assert made.value_type == expected
    units = {"seconds": "s", "bytes": "By", "1": "1", "requests": "{requests}", "rows": "{rows}"}
    assert made.unit == units.get(metric.unit, made.unit)
    assert [label.key for label in made.labels] == list(metric.labels)
