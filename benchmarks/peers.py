"""What a ranked list costs ours and its peers, in one run, and a chart of it.

The peers are a server made with mosec, which batches, and one written by hand with grpc.aio; both
score with xgboost on one thread. One core serves, h2load keeps 32 requests in flight from the
others, with eight lists. Answers are first held against XGBoost's own. Figures are medians of the
CPU time of all of a server's processes, per request.

Needs two cores, h2load (Debian: nghttp2-client), and a package index, from which mosec is
installed into an environment of its own under build/; where that fails it is left out.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks.harness import chart, cost, h2load, machine
from benchmarks.harness.data import FEATURES, SERVED, Trained
from benchmarks.harness.launch import STARTUP_SECONDS, RankerServer, ServerProcess
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request
from ranker.v1 import ranking_pb2 as pb

CASES = {
    "100 candidates, 500 trees": (100, 500),
    "10 candidates, 500 trees": (10, 500),
    "100 candidates, 100 trees": (100, 100),
}
OURS, BY_HAND, MOSEC = "ranker", "grpc.aio by hand, xgboost", "mosec, xgboost"
ENVIRONMENT = Path("build/peers")
PROGRAM = Path(__file__).with_name("servers") / "mosec_ranker.py"
CHECKED = 20


class MosecServer(ServerProcess):
    """A mosec server, once it answers: it listens before its worker is there."""

    def wait_ready(self) -> None:
        """Asks until it answers."""
        limit = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < limit:
            with suppress(OSError):
                self.rank(Request(np.zeros((1, FEATURES), np.float32)))
                return
            time.sleep(0.1)
        raise RuntimeError(f"mosec does not answer:\n{self.log.read_text()}")

    def rank(self, request: Request) -> pb.RankResponse:
        """One answer."""
        url = f"http://{self.address}/inference"
        with urllib.request.urlopen(url, data=request.rows.tobytes(), timeout=10.0) as page:
            order, scores = np.split(np.frombuffer(page.read(), "<f4"), 2)
        return pb.RankResponse(indices=order.view("<i4").tolist(), scores=scores.tolist())


def mosec_python() -> str:
    """The interpreter of mosec's environment, which is made if it isn't there.

    Raises:
        OSError: it can't be made here; says why.
    """
    python, ready = ENVIRONMENT / "bin/python", ENVIRONMENT / ".ready"
    versions = machine.versions("xgboost-cpu", "numpy")
    wanted = ["mosec", *(f"{name}=={version}" for name, version in versions.items())]
    make = [sys.executable, "-m", "venv", str(ENVIRONMENT)]
    install = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    for line in () if ready.exists() else (make, install):
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"no mosec: {done.stderr.strip().splitlines()[-1]}")
    ready.touch()
    return str(python)


def mosec_cost(server: MosecServer, requests: Sequence[Request], seconds: float) -> cost.Cost:
    """As `cost.by_h2load`, over HTTP/1.1."""
    for request in requests[:CHECKED]:
        request.check(server.rank(request))
    bodies = [request.rows.tobytes() for request in requests[: cost.LISTS]]
    url, clients = f"http://{server.address}/inference", cost.IN_FLIGHT // cost.LISTS
    load = partial(h2load.keep_busy, url, bodies, clients=clients, streams=1, headers=h2load.HTTP1)
    for length in (cost.WARM_UP_SECONDS, seconds):
        cpu = server.cpu_seconds()
        done = load(seconds=length)
        cpu = server.cpu_seconds() - cpu
    return cost.cost(cpu, done.calls, done.seconds)


def start(name: str, trees: int, trained: Trained, core: set[int], python: str) -> ServerProcess:
    """One of the servers."""
    if name == OURS:
        return RankerServer(str(trained.onnx(trees)), cores=core)
    model, count = str(trained.file), str(trees)
    if name == BY_HAND:
        command = (sys.executable, "-m", "benchmarks.servers.aio", model, count)
        return ServerProcess(*command, cores=core)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    own = ("--address", "127.0.0.1", "--port", port, "--log-level", "warning")
    said = {"PORT": port, "MODEL": model, "TREES": count, "FEATURES": str(FEATURES)}
    return MosecServer(python, str(PROGRAM), *own, cores=core, environment=os.environ | said)


@command
@click.option("--seconds", default=3.0, help="For each figure.")
@click.option("--rounds", default=3)
@click.option(
    "--svg", type=click.Path(path_type=Path), help="The chart: docs/images/peers.svg, say."
)
def main(report: Report, seconds: float, rounds: int, svg: Path | None) -> None:
    """Measures, prints the table and draws the chart."""
    h2load.required()
    python, names = "", [OURS, MOSEC, BY_HAND]
    try:
        python = mosec_python()
    except OSError as error:
        report.say(str(error))
        names.remove(MOSEC)
    core = machine.share_cores()
    trained, found = Trained(SERVED), {name: Rounds() for name in names}
    for _ in report.rounds(rounds):
        for title, (candidates, trees) in CASES.items():
            requests = trained.requests(candidates, trees)
            for name in names:
                with start(name, trees, trained, core, python) as server:
                    if isinstance(server, MosecServer):
                        took = mosec_cost(server, requests, seconds)
                    else:
                        cost.warm(server, requests)
                        took = cost.by_h2load(server, requests, seconds)
                found[name].note(title, took)
    head = [f"{name}, {what}" for name in names for what in ("µs", "lists/s")]
    table, costs = report.table("list, model", *head), dict[str, dict[str, float]]()
    for title in CASES:
        medians = {name: found[name].medians(title) for name in names}
        table.row(title, *(m[head] for m in medians.values() for head in (cost.CPU, cost.RATE)))
        costs[title] = {name: median[cost.CPU] for name, median in medians.items()}
    if svg is not None:
        lines = (
            "CPU time of the server per ranked list, in microseconds: shorter is better",
            "XGBoost rankers of depth 6, 64 features; 32 requests in flight; one core serves",
            f"{machine.processor()}, {machine.facts()['date']}",
        )
        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(chart.bars(lines, costs, highlight=OURS, unit="µs"))
