"""What the exporter makes of an API that fails, hangs, refuses or is away."""

import errno
import logging
import os
import threading
import time

import pytest

pytest.importorskip("google.cloud.monitoring_v3", reason="the extra gcp is not installed")

import grpc
from hypothesis import given
from hypothesis import strategies as st

from exporters.gcp_monitoring import writer
from exporters.gcp_monitoring.points import metric_type
from exporters.gcp_monitoring.writer import pause_after
from ranker.metrics import catalogue as catalog
from tests.exporters.gcp_monitoring.conftest import (
    MODELS,
    Server,
    assert_exact,
)
from tests.exporters.gcp_monitoring.metric_service import LocalMetricService, fail, hang
from tests.metrics.support import value
from tests.waiting import PATIENCE, wait_until


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
    wait_until(lambda: service.series, "an export after the failures")
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
    wait_until(lambda: server.points("exported"), "an export after the failures")
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []


def test_partial_refusal_is_counted(server: Server, service: LocalMetricService):
    service.poisoned.add(metric_type(catalog.BATCH_ROWS))
    server.work()
    exporter = server.export(service.address)
    wait_until(lambda: server.points("failed"), "the first export")
    written = sum(len(series.points) for series in service.series.values())
    failed = server.points("failed")
    assert failed % len(MODELS) == 0
    assert server.points("exported") >= written - failed
    service.poisoned.clear()
    exporter.close()
    assert_exact(server, service)


def test_hanging_api_delays_nobody(server: Server, service: LocalMetricService):
    released = threading.Event()
    service.faults.append(hang(released))
    exporter = server.export(service.address)
    wait_until(lambda: not service.faults, "the call that hangs")
    try:
        server.work(rounds=10)
        families = server.reader.snapshot()
        assert value(families, catalog.CANDIDATES_SCORED, "model-0", "1") == 100
        began = time.monotonic()
        exporter.close(limit=0.5)
        assert time.monotonic() - began < PATIENCE / 2  # the call would take all of it
    finally:
        released.set()
    exporter._thread.join(PATIENCE)  # the connection was cut under it
    assert not exporter._thread.is_alive()


def test_call_that_hangs_is_given_up(
    server: Server, service: LocalMetricService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("exporters.gcp_monitoring.writer._CALL_SECONDS", 1.0)
    released = threading.Event()
    service.faults.append(hang(released))
    server.work()
    exporter = server.export(service.address)
    wait_until(lambda: service.series, "an export after the one that hangs")
    monkeypatch.setattr("exporters.gcp_monitoring.writer._CALL_SECONDS", PATIENCE)
    released.set()
    exporter.close()
    assert_exact(server, service)
    assert service.refused == []


def test_cut_connection_is_made_up_for(server: Server, service: LocalMetricService):
    released = threading.Event()
    service.faults.append(hang(released))
    server.work()
    exporter = server.export(service.address)
    wait_until(lambda: not service.faults, "a call to cut")
    service.stop()
    released.set()
    wait_until(lambda: server.points("failed"), "the failure")
    service.start()
    wait_until(lambda: service.series, "an export over a new connection")
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
    wait_until(lambda: len(attempts) >= 3, "three attempts")
    began = time.monotonic()
    exporter.close(limit=PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    assert not exporter._thread.is_alive()
    messages = [r.message for r in caplog.records if "GCP Monitoring" in r.message]
    assert len(messages) == 1


def test_missing_credentials_are_logged_and_no_reason_to_die(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/does/not/exist.json")
    exporter = server.export("")
    wait_until(lambda: "/does/not/exist.json" in caplog.text, "the complaint")
    exporter.close(limit=PATIENCE)
    assert not exporter._thread.is_alive()


def test_a_machine_without_descriptors_is_no_bug(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(writer.GcpMonitoringExporter, "_connect", none_left)
    exporter = server.export("")
    wait_until(lambda: "failed: [Errno 24] Too many open files" in caplog.text, "the complaint")
    exporter.close(limit=PATIENCE)
    assert "bug" not in caplog.text


@given(st.integers(0, 10_000), st.floats(10, 3600))
def test_pause_grows_with_failures_within_limits(failures: int, interval: float):
    pause = pause_after(failures, interval)
    assert interval <= pause <= max(interval, min(interval * 2.0 ** min(failures, 10), 600))


def test_clock_that_was_ahead_and_is_right_again_is_made_up_for(
    server: Server, service: LocalMetricService, monkeypatch: pytest.MonkeyPatch
):
    server.work()
    true = time.time
    with monkeypatch.context() as wrong:
        wrong.setattr("time.time", lambda: true() + 3600)
        exporter = server.export(service.address)
        wait_until(lambda: service.refused, "points of the future")
    assert all("in the future" in reason for reason in service.refused)
    wait_until(lambda: service.series, "an export at the right time")
    server.work()
    exporter.close()
    assert_exact(server, service)
