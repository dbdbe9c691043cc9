"""What running a server takes beside requests: to start, to hold in memory, to be scraped.

From the exec of `ranker serve` with two models to SERVING, and from SIGTERM to the end; what each
process holds after a moment of load (of a page that n processes share, proportional memory gives
each an nth); and a scrape: time, size, and CPU time of all processes, and of the workers alone,
who have requests to answer. There is no server that does not record, so what a record costs is
not to be seen from outside.
"""

from __future__ import annotations

import time
import urllib.request
from collections import Counter

import click

from benchmarks.harness import cost
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer, role, usage
from benchmarks.harness.report import Report, Rounds, command

FORMATS = {"text": "text/plain", "OpenMetrics": "application/openmetrics-text; version=1.0.0"}
SCRAPES = 20


def scraped(server: RankerServer, accept: str) -> dict[str, float]:
    """What a scrape takes, as Prometheus asks for it: the mean of some."""
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    request = urllib.request.Request(server.metrics_url, headers=headers)
    before = time.perf_counter(), server.cpu_seconds(), server.cpu_seconds("worker")
    for _ in range(SCRAPES):
        with urllib.request.urlopen(request) as response:
            body = response.read()
    after = time.perf_counter(), server.cpu_seconds(), server.cpu_seconds("worker")
    ms, cpu, workers = (1e3 * (b - a) / SCRAPES for a, b in zip(before, after, strict=True))
    return {"kB, compressed": len(body) / 1e3, "ms": ms, "CPU ms": cpu, "of workers": workers}


@command
@click.option("--rounds", default=5)
@click.option("--workers", default=[1, 2], multiple=True)
def main(report: Report, rounds: int, workers: tuple[int, ...]) -> None:
    """Measures and prints three tables."""
    trained, times, memory, scrapes = Trained(SERVED), Rounds(), Rounds(), Rounds()
    requests, models = trained.requests(100), [str(trained.onnx(trees)) for trees in (500, 100)]
    for _ in report.rounds(rounds):
        for count in workers:
            began = time.monotonic()
            with RankerServer(*models, "--workers", str(count)) as server:
                ready = time.monotonic()
                for method in ("unary", "stream"):
                    cost.warm(server, requests, method)
                seen: Counter[str] = Counter()
                for process in server.processes():
                    name, (rss, pss, fds, threads) = role(process), usage(process)
                    seen[name] += 1
                    held = {"resident MiB": rss / 2**20, "proportional MiB": pss / 2**20}
                    held |= {"fds": fds, "threads": threads}
                    memory.note(f"{count} workers: {name} {seen[name]}", held)
                for name, accept in FORMATS.items():
                    scrapes.note(f"{count} workers: {name}", scraped(server, accept))
                asked = time.monotonic()
            ended = {"exec to SERVING, s": ready - began, "to the end, s": time.monotonic() - asked}
            times.note(str(count), ended)
    for head, figures in (("workers", times), ("process", memory), ("scrape", scrapes)):
        figures.show(report, head)
