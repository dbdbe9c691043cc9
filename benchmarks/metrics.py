"""What metrics cost, in CPU time: of a whole server, per record, and per scrape.

    make bench-metrics

One server, with both exporters on, is loaded, and records during every other
few batches. Unrecorded, it still calls a recorder that does nothing. Then it is
left alone, scraped every 5 s and writing to GCP Monitoring every 10 s, which is
more often than usual.

A record is all that the serving loop records of one unary Rank: its RPC, its
share of a batch, its answer. The scraped server has eight worker slots and two
models, and every series of both has been touched; the time is that of both ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import closed_loop
from benchmarks.pinned import PinnedServer
from benchmarks.server import (
    CACHE,
    FEATURES,
    LOAD_CORE,
    SERVER_CORE,
    Requests,
    rows_and_booster,
)
from exporters.prometheus.server import PrometheusServer
from ranker import export_onnx
from ranker.metrics.aggregates import Aggregates, Layout
from ranker.metrics.reader import Reader
from ranker.metrics.recorder import Recorder

METHODS = tuple(
    f"/ranker.v1.RankingService/{name}" for name in ("Rank", "RankStream", "GetModel", "ListModels")
)
MODELS = (("books", "1"), ("films", "7"))
WORKERS = 8
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORMATS = {"text": "text/plain", "OpenMetrics": "application/openmetrics-text; version=1.0.0"}
REQUESTS = 20_000
REPEATS = 15
TREES = 500
IN_FLIGHT = 32
WARM_SECONDS = 1.0
ROUND = 40  # windows, with and without a recorder in turns
SCRAPE_SECONDS, IDLE_SCRAPES = 5.0, 6


def best(work: Callable[[], object], units: int) -> str:
    """Microseconds of CPU per unit of work: the best and the median of the repeats."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) / units * 1e6)
    return f"{min(times):8.2f} µs (median {statistics.median(times):.2f})"


def record(recorder: Recorder, batch: int, traceparent: str | None) -> None:
    """Records `REQUESTS` unary requests of 100 candidates, scored `batch` at a time."""
    waits = [i * 1e-5 for i in range(batch)]
    for _ in range(REQUESTS // batch):
        for _ in waits:
            recorder.rpc_started()
        recorder.queue_changed(100 * batch)
        recorder.queue_changed(0)
        recorder.batch_scored(0, 100 * batch, batch, waits, 2e-3)
        for wait in waits:
            recorder.request_finished(0, 0, 100, 0.05, 2e-3 + wait, traceparent)
            recorder.rpc_finished(METHODS[0], 0)


def touch(recorder: Recorder) -> None:
    """Records at least once in every series that a client can reach."""
    for method in (*METHODS, "/no.such/Method"):
        recorder.rpc_started()
        recorder.rpc_finished(method, 0)
    for model in range(-1, len(MODELS)):
        recorder.batch_scored(model, 100, 1, [1e-4], 1e-3)
        for code in (0, 3):
            recorder.request_finished(model, code, 100, 0.05, 1e-3, TRACEPARENT)


def scrape(url: str, accept: str) -> bytes:
    """One scrape, as Prometheus asks for it."""
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        body: bytes = response.read()
    return body


class SwitchedServer:
    """A `benchmarks.switchable`."""

    def __init__(self, model: Path, api: str, directory: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._page = f"http://127.0.0.1:{port}/metrics"
        self._windows = Path(directory) / "windows"
        program = ("-m", "benchmarks.switchable", str(model), str(port), api, str(self._windows))
        self.process = PinnedServer(SERVER_CORE, *program)

    def rounds(
        self, requests: Requests, seconds: float, *, streaming: bool
    ) -> list[tuple[float, float]]:
        """Microseconds of CPU per request under load, unrecorded and recorded, of each round."""
        self._load(requests, WARM_SECONDS, streaming)
        self._written()
        self._load(requests, seconds, streaming)
        windows = self._written()
        costs = []
        for begin in range(0, len(windows) - ROUND + 1, ROUND):
            cpu, count = [0.0, 0.0], [0, 0]
            for recorded, spent, answered in windows[begin : begin + ROUND]:
                cpu[recorded] += spent
                count[recorded] += answered
            costs.append((cpu[0] / count[0] * 1e6, cpu[1] / count[1] * 1e6))
        return costs

    def exporting(self) -> float:
        """The share of a core that it takes to publish, and to wait for requests."""
        before = self.process.cpu_seconds()
        for _ in range(IDLE_SCRAPES):
            time.sleep(SCRAPE_SECONDS)
            scrape(self._page, FORMATS["text"])
        return (self.process.cpu_seconds() - before) / (IDLE_SCRAPES * SCRAPE_SECONDS)

    def _load(self, requests: Requests, seconds: float, streaming: bool) -> None:
        closed_loop.run(
            self.process.address,
            requests.encoded,
            concurrency=IN_FLIGHT,
            seconds=seconds,
            check=requests.check,
            streaming=streaming,
        )

    def _written(self) -> list[tuple[bool, float, int]]:
        self.process.signal(signal.SIGUSR1)
        time.sleep(1)
        windows: list[tuple[bool, float, int]] = json.loads(self._windows.read_text())
        return windows


def print_shares(seconds: float) -> None:
    """What metrics and exporters add to a server's CPU time."""
    rows, booster = rows_and_booster()
    path = CACHE / f"{TREES}-trees.onnx"
    if not path.exists():
        export_onnx(booster, path, iteration_range=(0, TREES))
    with (
        TemporaryDirectory() as directory,
        PinnedServer(LOAD_CORE, "-m", "tests.exporters.gcp_monitoring.metric_service") as api,
    ):
        server = SwitchedServer(path, api.address, directory)
        with server.process:
            print(f"\n{IN_FLIGHT} in flight:\n")
            print("| case | rounds | CPU us, unrecorded | a recorder adds | quartiles |")
            print("|---|---|---|---|---|")
            for kind, candidates in (("Rank", 10), ("Rank", 100), ("RankStream", 10)):
                requests = Requests(rows, booster, candidates, TREES)
                costs = server.rounds(requests, seconds, streaming=kind == "RankStream")
                added = [on / off - 1 for off, on in costs]
                least, middle, most = statistics.quantiles(added)
                print(
                    f"| {kind} {candidates} x {FEATURES} x {TREES} trees | {len(costs)} "
                    f"| {statistics.median(off for off, _ in costs):.1f} "
                    f"| {middle:.1%} | {least:.1%} to {most:.1%} |",
                    flush=True,
                )
            print(f"\nboth exporters, and waiting for requests: {server.exporting():.1%} of a core")


def print_pieces() -> None:
    """What a record and a scrape cost by themselves."""
    recorder = Recorder(Aggregates.private(Layout(MODELS, METHODS)))
    for batch in (1, 8, 32):
        for name, traceparent in (("untraced", None), ("traced", TRACEPARENT)):
            cost = best(partial(record, recorder, batch, traceparent), REQUESTS)
            print(f"request, batches of {batch:2}, {name:8}: {cost}")
    recorder.close()

    aggregates = Aggregates.private(Layout(MODELS, METHODS, WORKERS))
    for worker in range(WORKERS):
        recorder = Recorder(aggregates, worker)
        touch(recorder)
        recorder.close()
    reader = Reader(aggregates)
    server = PrometheusServer(reader, 0, "127.0.0.1")
    url = f"http://127.0.0.1:{server.port}/metrics"
    for name, accept in FORMATS.items():
        print(f"scrape, {WORKERS} workers, {name:11}: {best(partial(scrape, url, accept), 1)}")
    server.close()
    reader.close()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metrics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="per case")
    options = parser.parse_args()
    print_pieces()
    os.sched_setaffinity(0, {LOAD_CORE})
    print_shares(options.seconds)
    print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
