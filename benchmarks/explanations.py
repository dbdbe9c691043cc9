"""What explanations that others ask for do to plain lists, at half of what a worker can do.

One server, in turns without and beside callers who ask for explanations all the time. Needs two
cores and h2load (Debian: nghttp2-client).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click
import grpc

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from ranker.client.channel import RANK
from ranker.client.request import rank_request
from ranker.metrics.catalogue import CANDIDATES_EXPLAINED

ALONE, BESIDE = "plain lists alone", "beside explanations"
TIMEOUT = 60.0


@command
@click.option("--rounds", default=5)
@click.option("--seconds", default=2.0, help="For each figure.")
@click.option("--candidates", default=100)
@click.option("--explain", default=100, help="Candidates that a request asks to explain.")
@click.option("--callers", default=8, help="Who ask for explanations, again and again.")
@click.option("--transport", default="core")
def main(
    report: Report,
    rounds: int,
    seconds: float,
    candidates: int,
    explain: int,
    callers: int,
    transport: str,
) -> None:
    """Measures and prints a table, and the ratio of the p99s."""
    h2load.required()
    core, trained, found = machine.share_cores(), Trained(SERVED), Rounds()
    requests = trained.requests(candidates, count=64)
    asked = rank_request(trained.requests(explain, count=1)[0].rows, explain=explain)
    with RankerServer(str(trained.onnx()), "--transport", transport, cores=core) as server:
        for _ in report.rounds(rounds):
            found.note(ALONE, cost.at_half_load(server, requests, seconds))
            with _asking(server.address, asked, callers):
                found.note(BESIDE, cost.at_half_load(server, requests, seconds))
        explained = server.scrape().total(CANDIDATES_EXPLAINED.name)
    found.show(report, f"{candidates} candidates")
    ratio = found.ratio(BESIDE, ALONE, cost.HEADS[-1])
    report.say(f"p99 beside explanations is {ratio:.2f} times that without, in 1/4 s")
    report.say(f"{explained:,.0f} candidates were explained")


@contextmanager
def _asking(address: str, request: bytes, callers: int) -> Iterator[None]:
    """Keeps so many requests waiting; those that are refused, or late, are asked again."""
    over = threading.Event()

    def ask() -> None:
        with grpc.insecure_channel(address) as channel:
            rank = channel.unary_unary(*RANK)
            while not over.is_set():
                try:
                    rank(request, timeout=TIMEOUT)
                except grpc.RpcError:
                    over.wait(0.01)

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
