"""Goodput, and how busy a server says it is, at loads from a fifth to 3x what it can do.

h2load finds the capacity of a core in a closed loop before each load, as machines change, and then
offers a part of it, or more, in an open one (Poisson); at last, and at once, half of it again: does
the server recover? Both have the same lists on as many connections: a processor learns the branches
of few lists, by which onnxruntime gains much. h2load reads no status: an answer is good if the
server sent it, less calls that took longer than the deadline, but for those that it ended itself.

Beside `ranker_worker_utilization_ratio`, worked out over the same seconds, are the part of the
time in which the loop did not wait, and that in which the engine scored; these are best compared
without a deadline (0). Needs two cores and h2load (Debian: nghttp2-client).
"""

from __future__ import annotations

import itertools

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request
from ranker.metrics import catalogue

CASES = ("onnx 100", "simd 1000")
"""Engine and candidates: a slow engine, or large lists; what one core can send too much of."""
LOADS = (0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
AGAIN = 0.5


def measure(
    server: RankerServer, requests: list[Request], capacity: float, load: float, seconds: float,
    deadline: float | None,
) -> dict[str, float]:  # fmt: skip
    """One load: goodput at the least, latency of all calls, and how busy the server was."""
    before, cpu = server.scrape(), server.cpu_seconds()
    calls = cost.offer(server.url, requests, load * capacity, seconds, deadline)
    after, cpu = server.scrape(), server.cpu_seconds() - cpu
    codes = after.codes() - before.codes()
    late = sum(call.latency > deadline for call in calls) if deadline else 0
    refused, good = codes["RESOURCE_EXHAUSTED"], codes["OK"]
    good -= max(0, late - codes["DEADLINE_EXCEEDED"])
    # While h2load starts the server does nothing, so all of this is of the load's own time.
    busy = (catalogue.WORKER_BUSY, catalogue.ENGINE_LOAD, catalogue.ENGINE_BUSY)
    loop, scored, engine = (after.grown(before, each.name) / calls.seconds for each in busy)
    waited = after.taken - before.taken - after.grown(before, catalogue.WORKER_WAIT.name)
    return {
        "offered/s": calls.rate,
        "of capacity": calls.rate / capacity,
        "goodput/s": max(0, good) / calls.seconds,
        "p50 ms": 1e3 * calls.percentile(50),
        "p99 ms": 1e3 * calls.percentile(99),
        "refused": refused / codes.total(),
        "late, of the others": late / max(1, len(calls) - refused),
        "server, cores": cpu / calls.seconds,
        "memory MiB": server.usage().rss / 2**20,
        "utilisation": max(loop, scored),
        "did not wait": waited / calls.seconds,
        "engine": engine,
    }


@command
@click.option("--seconds", default=2.0, help="For each load.")
@click.option("--rounds", default=3, help="Of all loads; medians are printed.")
@click.option("--deadline-ms", default=50.0, help="0: none.")
@click.option("--load", "loads", multiple=True, default=LOADS, help="In parts of the capacity.")
@click.option("--case", "cases", multiple=True, default=CASES, help="Engine and candidates.")
@click.option("--transport", "transports", multiple=True, default=("auto",))
def main(
    report: Report, seconds: float, rounds: int, deadline_ms: float, loads: tuple[float, ...],
    cases: tuple[str, ...], transports: tuple[str, ...],
) -> None:  # fmt: skip
    """Measures and prints a table per case."""
    h2load.required()
    core, deadline, trained = machine.share_cores(), deadline_ms / 1e3 or None, Trained(SERVED)
    for case, transport in itertools.product(cases, transports):
        engine, candidates = case.split()
        requests = trained.requests(int(candidates), count=h2load.PROCESSES)
        found, options = Rounds(), ("--engine", engine, "--transport", transport)
        with RankerServer(str(trained.onnx()), *options, cores=core) as server:
            cost.flat_out(server, requests, cost.WARM_UP_SECONDS)
            for _ in report.rounds(rounds):
                for load in loads:
                    cpu = server.cpu_seconds()
                    done = cost.flat_out(server, requests, seconds, shape=cost.OFFERED)
                    capacity = done.calls / (server.cpu_seconds() - cpu)  # of the core
                    step = measure(server, requests, capacity, load, seconds, deadline)
                    found.note(f"{load:g}", step)
                step = measure(server, requests, capacity, AGAIN, seconds, deadline)
                found.note(f"{AGAIN:g} again", step)
        title = f"{candidates} candidates x 500 trees, engine {engine}, transport {transport}"
        found.show(report, "load", title)
