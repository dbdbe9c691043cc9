"""Goodput under overload: answers within the deadline, at loads up to 3x what the server can do.

h2load finds the capacity in a closed loop, then offers from half of it to three times as much in
an open one (Poisson), and at once half of it again, to see whether the server recovers. It reads
no status. So an answer counts as good if the server sent it, and as many are taken off as calls
took longer than the deadline, but for those that the server itself ended then: goodput is at least
what is printed. Needs two cores and h2load (Debian: nghttp2-client).
"""

from __future__ import annotations

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request

CASES = (("onnx", 100), ("simd", 1000))
"""Engine and candidates: a slow engine, or large lists; what one core can send too much of."""
STEPS = {"0.5": 0.5, "0.8": 0.8, "1": 1.0, "1.5": 1.5, "2": 2.0, "3": 3.0, "0.5 again": 0.5}


def measure(
    server: RankerServer, requests: list[Request], rate: float, seconds: float, deadline: float
) -> dict[str, float]:
    """One load: goodput at the least, latency of all calls."""
    codes, cpu = server.scrape().codes(), server.cpu_seconds()
    calls = cost.offer(server.address, requests, rate, seconds, deadline)
    codes, cpu = server.scrape().codes() - codes, server.cpu_seconds() - cpu
    late, refused = sum(call.latency > deadline for call in calls), codes["RESOURCE_EXHAUSTED"]
    good = codes["OK"] - max(0, late - codes["DEADLINE_EXCEEDED"])
    return {
        "offered/s": calls.rate,
        "goodput/s": max(0, good) / calls.seconds,
        "p50 ms": 1e3 * calls.percentile(50),
        "p99 ms": 1e3 * calls.percentile(99),
        "refused": refused / codes.total(),
        "late, of the others": late / max(1, len(calls) - refused),
        "server, cores": cpu / calls.seconds,
        "memory MiB": server.usage().rss / 2**20,
    }


@command
@click.option("--seconds", default=2.0, help="For each step.")
@click.option("--rounds", default=3, help="Of all steps; medians are printed.")
@click.option("--deadline-ms", default=50.0)
@click.option("--transport", default="auto")
def main(report: Report, seconds: float, rounds: int, deadline_ms: float, transport: str) -> None:
    """Measures and prints a table per case."""
    h2load.required()
    core, deadline, trained = machine.share_cores(), deadline_ms / 1e3, Trained(SERVED)
    for engine, candidates in CASES:
        requests, found = trained.requests(candidates, count=h2load.PROCESSES), Rounds()
        options = ("--engine", engine, "--transport", transport)
        with RankerServer(str(trained.onnx()), *options, cores=core) as server:
            cost.flat_out(server, requests, cost.WARM_UP_SECONDS)
            done = cost.flat_out(server, requests, seconds)
            capacity = done.calls / done.seconds
            for _ in report.rounds(rounds):
                for name, load in STEPS.items():
                    step = measure(server, requests, load * capacity, seconds, deadline)
                    found.note(name, step)
        title = f"{candidates} candidates x 500 trees, engine {engine}: {capacity:.0f}/s flat out"
        found.show(report, "load", title)
