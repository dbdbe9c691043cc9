"""Whether the signal to scale on is the load: utilisation at 0.2 to 1.0 of what the server can do.

h2load finds the capacity of one worker with 32 calls in flight, and then offers fractions of it in
an open loop (Poisson). Beside `ranker_worker_utilization_ratio`, worked out over the same
seconds, are the share of the time in which the loop did not wait, and that in which the engine
scored. Needs two cores and h2load (Debian: nghttp2-client).
"""

from __future__ import annotations

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request
from ranker.metrics import catalogue
from ranker.metrics.metric import Metric

LOADS = (0.2, 0.4, 0.6, 0.8, 1.0)
CANDIDATES = ("10", "100", "1000")


def measure(
    server: RankerServer, requests: list[Request], share: float, seconds: float
) -> dict[str, float]:
    """Offers a share of what the server can do, which is found anew: machines change."""
    full = cost.flat_out(server, requests, seconds / 2)
    capacity = full.calls / full.seconds
    before = server.scrape()
    calls = cost.offer(server.address, requests, share * capacity, seconds)
    after = server.scrape()
    time = after.taken - before.taken

    def grown(metric: Metric) -> float:
        return after.total(metric.name) - before.total(metric.name)

    # While h2load starts the server does nothing, so all of this is of the load's own time.
    loop, engine = (
        grown(m) / calls.seconds for m in (catalogue.WORKER_BUSY, catalogue.ENGINE_BUSY)
    )
    offered = calls.rate / capacity
    return {
        "load": offered,
        "utilisation": max(loop, engine),
        "too high by": max(loop, engine) - offered,
        "did not wait": (time - grown(catalogue.WORKER_WAIT)) / calls.seconds,
        "engine": engine,
        "p99 ms": 1e3 * calls.percentile(99),
        "capacity/s": capacity,
    }


@command
@click.option("--seconds", default=2.0, help="For each load.")
@click.option("--rounds", default=3, help="Of all loads; medians are printed.")
@click.option("--transport", "transports", multiple=True, default=("core", "aio"))
@click.option("--engine", "engines", multiple=True, default=("simd", "onnx"))
@click.option("--candidates", multiple=True, default=CANDIDATES)
def main(
    report: Report, seconds: float, rounds: int, transports: tuple[str, ...],
    engines: tuple[str, ...], candidates: tuple[str, ...],
) -> None:  # fmt: skip
    """Measures and prints a table per case."""
    h2load.required()
    core, trained = machine.share_cores(), Trained(SERVED)
    cases = [(t, e, int(c)) for t in transports for e in engines for c in candidates]
    for transport, engine, size in cases:
        requests, found = trained.requests(size, count=h2load.PROCESSES), Rounds()
        options = ("--engine", engine, "--transport", transport)
        with RankerServer(str(trained.onnx()), *options, cores=core) as server:
            cost.flat_out(server, requests, cost.WARM_UP_SECONDS)
            for _ in report.rounds(rounds):
                for share in LOADS:
                    found.note(f"{share:g}", measure(server, requests, share, seconds))
        found.show(
            report, "asked for", f"{size} candidates, engine {engine}, transport {transport}"
        )
