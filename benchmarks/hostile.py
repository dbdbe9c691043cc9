"""What others see of a server that is flooded: answers, latency, and the memory it takes.

Twenty connections at once send frames that cost the server more than their sender, for some
seconds each kind; another caller ranks a hundred lists a second meanwhile. Then messages come that
were changed at random. It passes if nobody else had an error, or a p99 of a second or more; no
message was answered as a bug; and resident memory grew by less than 300 MiB during a flood and
less than 100 MiB after. The floods are those of the tests.
"""

from __future__ import annotations

import time
from collections import Counter

import click
import grpc
import numpy as np

from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, command
from ranker.client import channel as wire
from tests.end_to_end.floods import FLOODS, MIB, another_caller, flood, held

AFTER_SECONDS = 5.0
BUGS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


def mutated(server: RankerServer, message: bytes, count: int) -> Counter[grpc.StatusCode]:
    """Sends messages with some of their first or last bytes changed; what became of them."""
    dice, codes = np.random.default_rng(11), Counter[grpc.StatusCode]()
    with grpc.insecure_channel(server.address, options=wire.OPTIONS) as channel:
        rank = channel.unary_unary(*wire.RANK)
        for _ in range(count):
            cut = dice.integers(1, len(message)) if dice.random() < 0.3 else len(message)
            changed = bytearray(message[:cut])
            for at in dice.integers(-20, 20, dice.integers(1, 6)):
                changed[at % len(changed)] = dice.integers(256)
            codes[rank.future(bytes(changed), timeout=10.0).code()] += 1
    return codes


@command
@click.option("--seconds", default=10.0, help="For each flood.")
@click.option("--messages", default=20_000, help="That are changed at random.")
@click.option("--transport", default="auto")
def main(report: Report, seconds: float, messages: int, transport: str) -> None:
    """Measures and prints a table; ends with 1 if something does not hold."""
    trained, failed = Trained(SERVED), []
    rows = np.zeros((10, SERVED.features), np.float32)
    heads = "answered", "p50 ms", "p99 ms", "worst ms", "MiB during", "after", "closed by the guard"
    table = report.table("flood", *heads)
    for kind in FLOODS:
        with RankerServer(str(trained.onnx()), "--transport", transport) as server:
            with another_caller(server, rows) as seen:
                with flood(server.address, kind):
                    time.sleep(seconds)
                time.sleep(AFTER_SECONDS)
                after = held(server) - seen.base
            closed = server.scrape().total("ranker_connections_closed_total")
        waits = 1e3 * np.percentile(seen.latencies, (50, 99, 100))
        answered = len(seen.latencies) - len(seen.errors)
        table.row(kind, answered, *map(float, waits), seen.growth / MIB, after / MIB, int(closed))
        if seen.errors or seen.p99 >= 1.0 or seen.growth >= 300 * MIB or after >= 100 * MIB:
            failed.append(kind)
    with RankerServer(str(trained.onnx()), "--transport", transport) as server:
        codes = mutated(server, trained.requests(10, count=1)[0].message, messages)
    report.say(f"changed messages: {', '.join(f'{n:,} {code.name}' for code, n in codes.items())}")
    if BUGS & codes.keys():
        failed.append("changed messages")
    report.say(f"does not hold: {', '.join(failed)}" if failed else "all of it holds")
    raise SystemExit(bool(failed))
