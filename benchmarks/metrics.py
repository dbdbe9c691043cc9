"""What metrics cost, in CPU time: the recorder per request, and a scrape.

    python -m benchmarks.metrics

A request is all that the serving loop records of one unary Rank: its RPC, its
arrival, its share of a batch, its answer. The scraped server has eight worker
slots and two models, and every series of both has been touched; the time is
that of both ends.
"""

from __future__ import annotations

import os
import statistics
import time
import urllib.request
from collections.abc import Callable
from functools import partial

from exporters.aggregates import Aggregates, Layout
from exporters.prometheus import PrometheusServer
from exporters.reader import Reader
from exporters.recorder import Recorder

METHODS = tuple(
    f"/ranker.v1.RankingService/{name}" for name in ("Rank", "RankStream", "GetModel", "ListModels")
)
MODELS = (("books", "1"), ("films", "7"))
WORKERS = 8
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORMATS = {"text": "text/plain", "OpenMetrics": "application/openmetrics-text; version=1.0.0"}
REQUESTS = 20_000
REPEATS = 15


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
            recorder.queue_changed(100)
        recorder.queue_changed(0)
        recorder.batch_scored(0, 100 * batch, batch, waits, 2e-3)
        for wait in waits:
            recorder.request_finished(0, 0, 100, 0.05, 2e-3 + wait, traceparent)
            recorder.rpc_finished(METHODS[0], 0, 2e-3 + wait)


def touch(recorder: Recorder) -> None:
    """Records at least once in every series that a client can reach."""
    for method in (*METHODS, "/no.such/Method"):
        recorder.rpc_started()
        recorder.rpc_finished(method, 0, 1e-3)
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


def main() -> None:
    """Prints the figures."""
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
    print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
