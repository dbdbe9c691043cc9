"""What traces cost, in CPU time of all the server's processes per request, beside a server without.

Servers with and without, in turns, kept busy by h2load; the collector takes what it gets. Needs
two cores, h2load (Debian: nghttp2-client) and the extra `otel`.
"""

from __future__ import annotations

from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command
from ranker.metrics.catalogue import TRACE_SPANS

OFF = "no traces"


class Collector(BaseHTTPRequestHandler):
    """Takes spans, and forgets them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Says that all is well."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing of it."""


@command
@click.option("--rounds", default=5)
@click.option("--seconds", default=2.0, help="For each figure.")
@click.option("--candidates", default=100)
@click.option("--transport", default="core")
@click.option("--rates", default=(0.0, 0.01), multiple=True, type=float, help="Shares traced.")
def main(
    report: Report,
    rounds: int,
    seconds: float,
    candidates: int,
    transport: str,
    rates: tuple[float, ...],
) -> None:
    """Measures and prints a table, and how much more each rate costs."""
    h2load.required()
    core, trained, found = machine.share_cores(), Trained(SERVED), Rounds()
    requests, model = trained.requests(candidates, count=64), str(trained.onnx())
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    Thread(target=collector.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    forms = {OFF: ()} | {
        f"{rate:.0%}": ("--trace-endpoint", endpoint, "--trace-rate", str(rate)) for rate in rates
    }
    with ExitStack() as running:
        servers = {
            name: running.enter_context(
                RankerServer(model, "--transport", transport, *options, cores=core)
            )
            for name, options in forms.items()
        }
        for server in servers.values():
            cost.warm(server, requests)
        for _ in report.rounds(rounds):
            for name, server in servers.items():
                found.note(name, cost.by_h2load(server, requests, seconds))
        for name, server in servers.items():
            scraped = server.scrape()
            sent, lost = (
                sum(scraped.total(TRACE_SPANS.name, outcome=outcome) for outcome in outcomes)
                for outcomes in (("exported",), ("failed", "dropped"))
            )
            report.say(f"{name}: {sent:,.0f} spans sent, {lost:,.0f} not")
    found.show(report, f"{candidates} candidates")
    for name in [*servers][1:]:
        ratio = found.ratio(name, OFF, cost.CPU)
        report.say(f"{name} traced takes {ratio:.3f} times the CPU of none")
    collector.shutdown()
