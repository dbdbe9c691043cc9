"""What a server does beside ranking, and what it costs: processor time and latency.

A server in turns without any, with a ranking log, traces, drift, and a shadow of all lists. CPU
time of all processes, per list, kept busy; latency at half of that. Needs h2load (nghttp2-client).
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import click
import numpy as np

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import FEATURES, SERVED, Trained, make_rows
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from ranker import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import publish
from tests.exporters.otlp.collector import LocalCollector

SHADOW = "models: {m: {source: m, labels: {stable: 1}, shadow: {version: 2}}}"
PLAIN = "nothing"


def forms(trained: Trained, folder: Path, endpoint: str) -> dict[str, list[str]]:
    """The arguments of `ranker serve`, by what the server does beside ranking."""
    model, watched = str(trained.onnx()), folder / "watched.onnx"
    reference = make_rows(np.random.default_rng(1), 10_000, FEATURES, 0.05)
    export_onnx(trained.booster, watched, reference=reference)
    for version in ("1", "2"):
        publish(ModelFile.read(Path(model)), str(folder / "m"), version, progress=lambda _: None)
    (folder / "ranker.yaml").write_text(SHADOW)
    log = [model, "--log-rankings", str(folder / "log"), "--log-rate"]
    return {
        PLAIN: [model],
        "log of all lists": [*log, "1"],
        "log of a tenth": [*log, "0.1"],
        "traces, 1 %": [model, "--trace-endpoint", endpoint, "--trace-rate", "0.01"],
        "drift": [str(watched)],
        "shadow": ["--config", str(folder / "ranker.yaml")],
    }


@command
@click.option("--rounds", default=5)
@click.option("--seconds", default=2.0, help="For each figure.")
@click.option("--candidates", default=100)
@click.option("--only", default="", help="With this in its name, beside nothing.")
def main(report: Report, rounds: int, seconds: float, candidates: int, only: str) -> None:
    """Measures and prints a table."""
    h2load.required()
    core, trained, found = machine.share_cores(), Trained(SERVED), Rounds()
    requests, latencies = trained.requests(candidates, count=64), cost.HEADS[2:]
    with tempfile.TemporaryDirectory() as name, closing(LocalCollector()) as collector:
        folder = Path(name)
        every = forms(trained, folder, collector.endpoint)
        chosen = {form: every[form] for form in every if form == PLAIN or only in form}
        for _ in report.rounds(rounds):
            for form, arguments in chosen.items():
                with RankerServer(*arguments, cores=core) as server:
                    cost.warm(server, requests)
                    busy = cost.by_h2load(server, requests, seconds)
                    half = cost.at_half_load(server, requests, seconds)
                shutil.rmtree(folder / "log", ignore_errors=True)
                found.note(form, {cost.CPU: busy[cost.CPU]} | {x: half[x] for x in latencies})
        head = (cost.CPU, *latencies, "CPU, ratio", "p99, ratio")
        table = report.table(f"beside lists of {candidates}", *head)
        for form in found.things():
            ratios = [found.ratio(form, PLAIN, each) for each in (cost.CPU, latencies[-1])]
            table.row(form, *found.medians(form).values(), *ratios)
