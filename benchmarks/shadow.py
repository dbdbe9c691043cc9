"""What a shadow of all lists does to latency and processor time, at half of what a worker can do.

One server, in turns without a shadow and with one that is as large as the model that ranks. Needs
two cores and h2load (Debian: nghttp2-client).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from ranker.metrics.catalogue import MODEL_GENERATION, SHADOW_DROPPED, SHADOW_LISTS
from ranker.model import ModelFile
from ranker.repository.publication import publish

CONFIG = "models: {{m: {{source: m, labels: {{stable: 1}}{}}}}}"
FORMS = {"no shadow": "", "shadow": ", shadow: {version: 2}"}


@command
@click.option("--rounds", default=5)
@click.option("--seconds", default=2.0, help="For each figure.")
@click.option("--candidates", default=100)
@click.option("--transport", default="core")
def main(report: Report, rounds: int, seconds: float, candidates: int, transport: str) -> None:
    """Measures and prints a table, and the ratio of the p99s."""
    h2load.required()
    core, trained, found = machine.share_cores(), Trained(SERVED), Rounds()
    requests, file = trained.requests(candidates, count=64), ModelFile.read(trained.onnx())
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "ranker.yaml"
        for version in ("1", "2"):
            publish(file, str(config.with_name("m")), version, progress=report.say)
        config.write_text(CONFIG.format(FORMS["shadow"]))
        options = ("--config", str(config), "--transport", transport)
        with RankerServer(*options, cores=core) as server:
            generation = 1
            for _ in report.rounds(rounds):
                for name, shadow in FORMS.items():
                    config.write_text(CONFIG.format(shadow))
                    generation += 1
                    while server.scrape().total(MODEL_GENERATION.name) < generation:
                        time.sleep(0.05)
                    found.note(name, cost.at_half_load(server, requests, seconds))
            after = [server.scrape().total(each.name) for each in (SHADOW_LISTS, SHADOW_DROPPED)]
    found.show(report, f"{candidates} candidates")
    ratio = found.ratio("shadow", "no shadow", cost.HEADS[-1])
    report.say(f"p99 with the shadow is {ratio:.2f} times that without, in 1/4 s")
    report.say(f"the shadow scored {after[0]:,.0f} lists, and {after[1]:,.0f} were dropped")
