"""Against Prometheus itself, where its server is installed (Debian's `prometheus`)."""

import json
import math
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporters.prometheus import exporter
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.office_recorder import OfficeRecorder
from ranker.metrics.reader import Reader
from ranker.office.app import application, page_routes
from tests.metrics.support import RANK, Worker, new_aggregates
from tests.office.support import served
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Prometheus:
    """A running Prometheus that scrapes one target five times a second."""

    def __init__(self, folder: Path, target: int) -> None:
        config = folder / "prometheus.yml"
        job = {"job_name": "ranker", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        interval = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
        config.write_text(json.dumps({"global": interval, "scrape_configs": [job]}))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("w"),
            env={"PATH": os.environ["PATH"]},
        )

    def get(self, path: str, **parameters: str | float) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return json.load(response)["data"]

    def query(self, promql: str) -> dict[tuple[str, ...], float]:
        """An instant query: label values in the order of their names, to value."""
        result = self.get("/api/v1/query", query=promql)["result"]
        return {
            tuple(
                value
                for name, value in sorted(series["metric"].items())
                if name not in ("__name__", "instance", "job")
            ): float(series["value"][1])
            for series in result
        }

    def await_answer(self, promql: str, expected: dict[tuple[str, ...], float]) -> None:
        """Waits for an answer: after a scrape that came to nothing there is none for a moment."""
        wait_until(
            lambda: self.query(promql) == expected,
            lambda: f"{promql}: {expected}, it is {self.query(promql)}",
        )

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.query("up") == {(): 1.0}
        except OSError:
            return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


@pytest.fixture
def aggregates() -> Aggregates:
    return new_aggregates(workers=2)


@pytest.fixture
def prometheus(aggregates: Aggregates, tmp_path: Path) -> Iterator[Prometheus]:
    reader = Reader(aggregates)
    running = exporter.start(reader, OfficeRecorder(aggregates), {"metrics_port": 0})
    with served(application(page_routes(running.pages))) as port:
        prometheus = Prometheus(tmp_path, port)
        try:
            wait_until(prometheus.is_up, "the first scrape")
            yield prometheus
        finally:
            prometheus.stop()
    reader.close()


def record(recorder: Worker, hundreds: int) -> None:
    """Per hundred: 75 answers and 25 errors; three in a hundred answers are slow."""
    for i in range(100 * hundreds):
        recorder.rpc_started()
        code = 8 if i % 4 == 3 else 0
        slow = (0.0024, 0.0020)[i % 2] if i % 100 < 16 else 0.0005
        traceparent = f"00-{TRACE}-00f067aa0ba902b7-01" if i == 0 else None
        recorder.request_finished(i % 2, code, 10, 0.05, slow, traceparent)
        recorder.rpc_finished(RANK, code)
    recorder.batch_scored(0, 1000, 100, [0.001] * 100, 0.002)


def test_scraped_and_queried(prometheus: Prometheus, aggregates: Aggregates):
    wait_until(lambda: bool(prometheus.query("ranker_requests_total")), "the first series")
    workers = [Worker(aggregates, worker) for worker in range(2)]
    record(workers[0], 3)
    record(workers[1], 4)
    total = 'sum(ranker_requests_total{model!="unknown"})'
    prometheus.await_answer(total, {(): 700})

    # A worker dies in the middle of a request and is replaced.
    workers[0].rpc_started()
    workers[0].close()
    aggregates.slots[0].vacate()
    workers[0] = Worker(aggregates, 0)
    record(workers[0], 5)
    prometheus.await_answer(total, {(): 1200})
    for recorder in workers:
        recorder.close()

    prometheus.await_answer("ranker_rpcs_in_flight", {(): 0})
    nonzero = {
        ("OK", "books", "1"): 600,
        ("OK", "films", "2024-05"): 300,
        ("RESOURCE_EXHAUSTED", "films", "2024-05"): 300,
    }
    prometheus.await_answer("ranker_requests_total > 0", nonzero)
    prometheus.await_answer("ranker_candidates_scored_total > 0", {("books", "1"): 3000})
    counts = {
        ("books", "ok", "1"): 600,
        ("films", "ok", "2024-05"): 300,
        ("films", "error", "2024-05"): 300,
    }
    prometheus.await_answer("ranker_request_duration_seconds_count > 0", counts)
    for name in ("requests_total", "rpcs_total", "request_duration_seconds_bucket"):
        assert prometheus.query(f"max(resets(ranker_{name}[5m]))") == {(): 0}

    # All were within 20 ms, those that came between the first two scrapes too.
    within = 'sum(rate(ranker_request_duration_seconds_bucket{outcome="ok",le="0.02"}[5m]))'
    objective = f'1 - {within} / sum(rate(ranker_requests_total{{code="OK"}}[5m]))'
    assert prometheus.query(objective)[()] == pytest.approx(0.0, abs=1e-9)

    errors = (
        'sum(rate(ranker_requests_total{code!="OK"}[5m])) / sum(rate(ranker_requests_total[5m]))'
    )
    assert prometheus.query(errors)[()] == pytest.approx(0.25)
    p99 = prometheus.query(
        "histogram_quantile(0.99, sum by (model, le) "
        "(rate(ranker_request_duration_seconds_bucket[5m])))"
    )
    assert 0.0020 < p99[("books",)] <= 0.0025
    assert 0.0016 < p99[("films",)] <= 0.0020
    assert not any(math.isnan(value) for value in p99.values())

    exemplars = prometheus.get(
        "/api/v1/query_exemplars",
        query="ranker_request_duration_seconds_bucket",
        start=time.time() - 600,
        end=time.time() + 60,
    )
    found = {e["labels"]["trace_id"] for series in exemplars for e in series["exemplars"]}
    assert found == {TRACE}
