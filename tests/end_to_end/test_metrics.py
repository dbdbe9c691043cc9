"""What the metrics say is what happened, to the last request, wherever they are published."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ranker import distribution
from ranker.metrics import catalogue as catalog
from ranker.metrics.metric import Kind, Metric
from tests.end_to_end.conftest import STARTUP_SECONDS, RunningServer, Truth
from tests.end_to_end.known_load import BOOKS, LIMITS, KnownLoad, Tally
from tests.exporters.gcp_monitoring.metric_service import LocalMetricService, fail, hang

# What depends on clocks and machines. All else must be exact.
MEASURED = {
    catalog.ENGINE_BUSY,
    catalog.ENGINE_LOAD,
    catalog.ENGINE_UTILIZATION,
    catalog.WORKER_UTILIZATION,
    catalog.WORKER_WAIT,
    catalog.WORKER_BUSY,
    catalog.MODEL_LOAD_DURATION,
    catalog.MODEL_INFO,
    catalog.MEMORY_LIMIT,
    catalog.TRANSPORT_INFO,
    catalog.SIMD_INFO,
    catalog.BUILD_INFO,
    catalog.PROCESS_CPU,
    catalog.PROCESS_MEMORY,
    catalog.PROCESS_FDS,
    catalog.PROCESS_START,
    catalog.GC_COLLECTIONS,
    catalog.GC_PAUSE,
    catalog.ACCESS_LOG_LINES,
}
# What is there or not, as the exporters fare, as somebody scrapes, or as lists happen to be taken.
CHANCE = {
    catalog.EXPORT_POINTS,
    catalog.HTTP_RESPONSES,
    catalog.DRIFT_FEATURE_PSI,
    catalog.DRIFT_FEATURE_MISSING,
    catalog.DRIFT_SCORE_PSI,
    catalog.DRIFT_ROWS,
}
EXACT = tuple(m for m in catalog.METRICS if m not in MEASURED | CHANCE)
EXPORTED = "gcp_monitoring", "exported"
EXACT_SUMS = (catalog.REQUEST_CANDIDATES, catalog.BATCH_ROWS, catalog.BATCH_REQUESTS)


class Published(Tally):
    """What an exporter has published, as the tally has it."""

    def take(self, metric: Metric, labels: dict[str, str], count: float, total: float = 0) -> None:
        key = metric.name, *(labels[label] for label in metric.labels)
        assert key not in self.counts
        self.counts[key] = count
        self.sums[key] = total

    def of(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """The metric's samples that aren't zero, by their labels."""
        return {key[1:]: n for key, n in self.counts.items() if key[0] == metric.name and n}

    def check(self, truth: Tally) -> None:
        """Everything exact equals the truth, and all else is there that outlives its process."""
        for mine, its, metrics in (
            (self.counts, truth.counts, EXACT),
            (self.sums, truth.sums, EXACT_SUMS),
        ):
            names = {metric.name for metric in metrics}
            assert {key: n for key, n in mine.items() if n and key[0] in names} == pytest.approx(
                {key: n for key, n in its.items() if key[0] in names}, rel=1e-9
            )  # GCP has means: a sum made of one is a little off
        for metric in MEASURED:
            if metric.kind is Kind.COUNTER or (catalog.WORKERS.name,) in truth.counts:
                assert any(name == metric.name for name, *_ in self.counts)
        if (catalog.WORKERS.name,) in truth.counts:
            release, python = distribution.version(), sys.version.split()[0]
            assert [key[:2] for key in self.of(catalog.BUILD_INFO)] == [(release, python)]
        for metric in (catalog.ENGINE_BUSY, catalog.PROCESS_CPU):
            assert all(self.counts[metric.name, worker] > 0 for worker in "01")
        busy = sum(self.of(catalog.ENGINE_BUSY).values())
        assert busy == pytest.approx(self.sums[catalog.SCORING_DURATION.name, *BOOKS])


def scraped(server: RunningServer) -> Published:
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample
        for family in text_string_to_metric_families(server.metrics())
        for sample in family.samples
    }
    found = Published()
    for metric in catalog.METRICS:
        name = f"{metric.name}_count" if metric.kind is Kind.HISTOGRAM else metric.name
        for key, sample in samples.items():
            if key[0] == name:
                total = samples.get((f"{metric.name}_sum", *key[1:]))
                found.take(metric, sample.labels, sample.value, total.value if total else 0)
    return found


def written(api: LocalMetricService) -> Published:
    metrics = {metric.name: metric for metric in catalog.METRICS}
    found = Published()
    for (type_, labels, _, _), series in api.series.items():
        metric = metrics[type_.replace("custom.googleapis.com/ranker/", "ranker_")]
        value = series.points[-1].value
        if metric.kind is Kind.HISTOGRAM:
            distribution = value.distribution_value
            total = distribution.mean * distribution.count
            found.take(metric, dict(labels), distribution.count, total)
        else:
            found.take(metric, dict(labels), getattr(value, value.WhichOneof("value")))
    return found


class TwoWorkers(RunningServer):
    """A server that nobody has asked anything when the test begins: questions are counted."""

    def __init__(self, *arguments: object) -> None:
        self._serving = 0
        super().__init__(*arguments)

    def wait_ready(self) -> None:
        self.wait_for_workers(2)

    def wait_for_workers(self, number: int) -> None:
        self._serving += number
        self.wait_for_log(rf"(?s)(worker \d serves.*){{{self._serving}}}")

    @contextmanager
    def connected(self, index: int) -> Iterator[grpc.Channel]:
        """A connection to one of the workers, found by trying."""

        def accepted() -> int:
            connections = psutil.Process(self.worker(index)).net_connections("tcp")
            return sum(c.laddr.port == self.port and c.status == "ESTABLISHED" for c in connections)

        for _ in range(100):
            before = accepted()
            options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(self.address, options) as channel:
                grpc.channel_ready_future(channel).result(STARTUP_SECONDS)
                if accepted() > before:
                    yield channel
                    return
        raise AssertionError(f"100 connections, none to worker {index}")


def load_while_a_worker_dies(server: TwoWorkers, truth: Truth) -> Tally:
    """The known load on both workers, before and after one of them dies; what came of it."""
    tally = Tally()
    load = KnownLoad(server, truth, tally)
    tally.add(catalog.WORKERS, number=2)
    tally.add(catalog.MODEL_GENERATION)
    tally.add(catalog.MODEL_SWITCHES, "ok")
    tally.add(catalog.WORKERS_SERVING, number=2)
    tally.add(catalog.MODEL_LOADS, *BOOKS, "ok", number=2)
    for index in (0, 1):
        with server.connected(index) as channel:
            load.run(channel)
    scraped(server).check(tally)
    os.kill(server.worker(1), signal.SIGKILL)
    server.wait_for_workers(1)
    tally.add(catalog.WORKER_RESTARTS)
    tally.add(catalog.MODEL_LOADS, *BOOKS, "ok")
    scraped(server).check(tally)
    for index in (0, 1):
        with server.connected(index) as channel:
            load.run(channel)
    scraped(server).check(tally)
    return tally


@pytest.mark.parametrize("transport", ["aio"], indirect=True)
def test_prometheus_is_exact(start, truth):
    server = start("--workers", "2", *LIMITS, kind=TwoWorkers)
    load_while_a_worker_dies(server, truth)


def away(api: LocalMetricService) -> Callable[[], None]:
    api.faults.append(fail(grpc.StatusCode.UNAVAILABLE))
    return lambda: None


def throttling(api: LocalMetricService) -> Callable[[], None]:
    api.faults.append(fail(grpc.StatusCode.RESOURCE_EXHAUSTED))
    return lambda: None


def silent(api: LocalMetricService) -> Callable[[], None]:
    released = threading.Event()
    api.faults.append(hang(released))
    return released.set


def losing_its_answer(api: LocalMetricService) -> Callable[[], None]:
    api.lost_answers = 1
    return lambda: None


def refusing_some(api: LocalMetricService) -> Callable[[], None]:
    api.poisoned.add("custom.googleapis.com/ranker/requests_total")
    return api.poisoned.clear


def cut_off(api: LocalMetricService) -> Callable[[], None]:
    api.stop()
    return api.start


@pytest.mark.parametrize("transport", ["core"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [
        losing_its_answer,
        *(
            pytest.param(fault, marks=pytest.mark.slow)
            for fault in (away, throttling, silent, refusing_some, cut_off)
        ),
    ],
)
def test_both_exporters_are_exact_though_an_export_fails(
    start, truth, monkeypatch: pytest.MonkeyPatch, fault
):
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")  # not on Google's machines, even there
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    api = LocalMetricService()
    mend = fault(api)
    gcp = ["--gcp-project", "p", "--gcp-interval", "10", "--gcp-emulator", api.address]
    server = start("--workers", "2", *LIMITS, *gcp, kind=TwoWorkers)
    tally = load_while_a_worker_dies(server, truth)

    server.wait_for_log("exporting to GCP Monitoring failed")
    mend()
    before = scraped(server)
    before.check(tally)
    assert server.stop() == 0  # with a last export
    del tally.counts[catalog.WORKERS.name,], tally.counts[catalog.WORKERS_SERVING.name,]
    after = written(api)
    after.check(tally)
    points, asked = after.of(catalog.EXPORT_POINTS), before.of(catalog.EXPORT_POINTS)
    # One more export may fall between the question and the end.
    assert points.pop(EXPORTED, 0) >= asked.pop(EXPORTED, 0)
    assert points == asked
    assert not api.refused
    api.stop()


def test_no_series_is_of_a_code_that_no_answer_has(server, client, truth):
    client.rank(truth.rows[:3])
    codes = set(re.findall(r'code="(\w+)"', server.metrics()))
    assert {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAVAILABLE"} <= codes
    assert not codes & {"ALREADY_EXISTS", "DATA_LOSS", "ABORTED", "OUT_OF_RANGE", "UNAUTHENTICATED"}
