"""Goodput, and how busy a server says it is, at loads from a fifth to 3x what it can do.

h2load finds the capacity of a core in a closed loop before and after each load, and offers a part
of it, or more, in an open one (Poisson); at last, and at once, a half. There are 128 lists, or 40
of 1000, so that few come twice in a row: the second time they are scored faster. h2load reads no
status: what was sent is good, less what took longer than the deadline, but for what the server
ended. `ranker_worker_utilization_ratio` is compared with the load, best with `--deadline-ms 0`,
and `--seconds 4` for long lists. Needs two cores and h2load.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request
from ranker.metrics import catalogue

CASES = ("onnx 100", "simd 1000")  # what one core can send too much of
MOST_ROWS = 32_000  # in flight where the capacity is measured
LOADS = (0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0)


def capacity(server: RankerServer, requests: list[Request], seconds: float) -> float:
    """Lists a second of the core's time, with so many in flight that turns are full."""
    rows, before, cpu = len(requests[0].rows), server.scrape(), server.cpu_seconds()
    cost.flat_out(server, requests, seconds, shape=(MOST_ROWS // rows, 1, 1))
    scored = server.scrape().grown(before, f"{catalogue.BATCH_ROWS.name}_sum")  # for nobody, too
    return scored / rows / (server.cpu_seconds() - cpu)


def measure(
    server: RankerServer, requests: list[Request], rate: float, seconds: float,
    deadline: float | None,
) -> dict[str, float]:  # fmt: skip
    """One load: goodput at the least, latency of all calls, and how busy the server was."""
    before, cpu = server.scrape(), server.cpu_seconds()
    calls = cost.offer(server.url, requests, rate, seconds, deadline)
    after, cpu = server.scrape(), server.cpu_seconds() - cpu
    codes = after.codes() - before.codes()
    late = sum(call.latency > deadline for call in calls) if deadline else 0
    refused = codes["RESOURCE_EXHAUSTED"]
    good = codes["OK"] - max(0, late - codes["DEADLINE_EXCEEDED"])
    # While h2load starts the server does nothing, so all of this is of the load's own time.
    busy = (after.grown(before, m.name) for m in (catalogue.WORKER_BUSY, catalogue.ENGINE_LOAD))
    return {
        "offered/s": calls.rate,
        "goodput/s": max(0, good) / calls.seconds,
        "p50 ms": 1e3 * calls.percentile(50),
        "p99 ms": 1e3 * calls.percentile(99),
        "refused": refused / codes.total(),
        "late, of the others": late / max(1, len(calls) - refused),
        "server, cores": cpu / calls.seconds,
        "memory MiB": server.usage().rss / 2**20,
        "utilisation": max(busy) / calls.seconds,
    }


@command
@click.option("--seconds", default=2.0, help="For each load.")
@click.option("--rounds", default=3, help="Of all loads; medians are printed.")
@click.option("--deadline-ms", default=50.0, help="0: none.")
@click.option("--load", "loads", multiple=True, default=LOADS, help="In parts of the capacity.")
@click.option("--case", "cases", multiple=True, default=CASES, help="Engine and candidates.")
@click.option("--trees", default=SERVED.trees, help="5000: so slow that h2load can overload it.")
@click.option("--transport", "transports", multiple=True, default=("auto",))
def main(
    report: Report, seconds: float, rounds: int, deadline_ms: float, loads: tuple[float, ...],
    cases: tuple[str, ...], trees: int, transports: tuple[str, ...],
) -> None:  # fmt: skip
    """Measures and prints a table per case."""
    h2load.required()
    core, deadline = machine.share_cores(), deadline_ms / 1e3 or None
    trained = Trained(replace(SERVED, trees=trees))
    for case, transport in product(cases, transports):
        engine, candidates = case.split()
        requests = trained.requests(int(candidates), count=h2load.PROCESSES)
        found, options = Rounds(), ("--engine", engine, "--transport", transport)
        with RankerServer(str(trained.onnx()), *options, cores=core) as server:
            cost.flat_out(server, requests, cost.WARM_UP_SECONDS)
            for _ in report.rounds(rounds):
                before = capacity(server, requests, seconds)
                for load in loads:
                    parts = {f"{load:g}": load} | ({"again": 0.5} if load == loads[-1] else {})
                    offered = (part * before for part in parts.values())
                    steps = [measure(server, requests, o, seconds, deadline) for o in offered]
                    last, before = before, capacity(server, requests, seconds)
                    for name, step in zip(parts, steps, strict=True):
                        step["of capacity"] = step["offered/s"] / ((last + before) / 2)
                        step["too busy by"] = step["utilisation"] - min(1.0, step["of capacity"])
                        step["capacity changed by"] = abs(before / last - 1.0)
                        found.note(name, step)
        title = f"{candidates} candidates x {trees} trees, engine {engine}, transport {transport}"
        found.show(report, "load", title)
