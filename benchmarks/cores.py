"""What a second core gives to a second worker.

h2load (Debian: nghttp2-client) keeps two calls in flight on each of 16 connections. One worker has
a core to itself, and the load has the other. Two workers and the load share both cores, so "as
measured" charges two workers for all of the load's CPU time. "Per CPU time" compares lists ranked
per second of the server's own CPU time, times two cores: as if the load came from elsewhere. Needs
two cores.
"""

from __future__ import annotations

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request
from ranker.metrics import catalogue

CASES = ((1000, "onnx"), (1000, "simd"), (100, "simd"), (10, "simd"))
"""Candidates of a list, and the engine."""


def loaded(server: RankerServer, requests: list[Request], seconds: float) -> dict[str, float]:
    """What a server does; `least` is the share of the scoring that the least busy worker did."""
    for length in (cost.WARM_UP_SECONDS, seconds):
        before, ranked, cpu = server.scrape(), cost.answered(server), server.cpu_seconds()
        done = cost.flat_out(server, requests, length)
        cpu, ranked = server.cpu_seconds() - cpu, cost.answered(server) - ranked
    after, name = server.scrape(), catalogue.ENGINE_BUSY.name
    workers = map(str, range(round(after.total(catalogue.WORKERS.name)) or 1))
    busy = [after.total(name, worker=each) - before.total(name, worker=each) for each in workers]
    return {
        "lists/s": ranked / done.seconds,
        "server, cores": cpu / done.seconds,
        "load, cores": done.cpu / done.seconds,
        "lists per CPU s": ranked / cpu,
        "least": min(busy) / sum(busy),
    }


@command
@click.option("--seconds", default=3.0, help="For each figure and round.")
@click.option("--rounds", default=3)
def main(report: Report, seconds: float, rounds: int) -> None:
    """Measures and prints two tables."""
    h2load.required()
    first, second, *_ = machine.cores()
    trained, found = Trained(SERVED), Rounds()
    places = ((1, {first}, {second}), (2, {first, second}, {first, second}))
    for _ in report.rounds(rounds):
        for candidates, engine in CASES:
            requests = trained.requests(candidates, count=cost.LISTS)
            for count, own, others in places:
                options = (str(trained.onnx()), "--workers", str(count), "--engine", engine)
                with RankerServer(*options, cores=own) as server, machine.on_cores(*others):
                    figures = loaded(server, requests, seconds)
                found.note(f"{candidates}, {engine}, {count}", figures)
    found.show(report, "candidates, engine, workers")
    table = report.table("candidates, engine", "two workers, as measured", "per CPU time")
    for candidates, engine in CASES:
        two, one = f"{candidates}, {engine}, 2", f"{candidates}, {engine}, 1"
        per_cpu = 2 * found.ratio(two, one, "lists per CPU s")
        table.row(f"{candidates}, {engine}", found.ratio(two, one, "lists/s"), per_cpu)
