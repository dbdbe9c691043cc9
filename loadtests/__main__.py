"""`python -m loadtests`: load a server, and say how it fared."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from loadtests import generator, report
from loadtests.callers import CALLERS
from loadtests.local_server import LocalServer, local_server
from loadtests.rig import Rig
from loadtests.scrape import Scrape, ServerShare
from loadtests.search import Step, search
from loadtests.shapes import SHAPES
from loadtests.slo import Slo
from loadtests.traffic import Traffic, load_rows
from ranker.client import RankerClient
from ranker.errors import RankerError
from ranker.v1 import ranking_pb2 as pb

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
STOP_TIMEOUT = 15
"""Seconds that locust's users have to finish what they are at."""


def _options(*options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def _parsed(_: click.Context, __: click.Parameter, text: str) -> str:
    try:
        Slo.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return text


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_server = _options(
    click.option("--serve", type=_FILE, help="An ONNX file to start a server for, on free ports."),
    click.option("--target", default="localhost:50051", help="A server that runs already."),
    click.option(
        "--metrics",
        default="",
        show_default=False,
        help="The URL of its /metrics, for the server's share.",
    ),
)
_traffic = _options(
    click.option(
        "--replay", type=_FILE, help="A .npy file of feature rows to send; by default random ones."
    ),
    click.option("--deadline", type=float, help="Seconds; by default 0.05, 0.1 and 0.5, mixed."),
)
_slo = click.option("--slo", default="p99=10ms,errors=0.1%", callback=_parsed, help="Objective.")
_out = click.option(
    "--out",
    default="build/loadtest",
    type=click.Path(path_type=Path),
    help="Where reports and logs go.",
)
_generator = _options(
    _server,
    click.option("--method", default="unary", type=click.Choice(list(CALLERS)), help="How to ask."),
    _traffic,
    click.option("--seconds", default=5.0, help="Length of a step."),
    _slo,
    _out,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Load a ranking server, and say how it fared.

    \b
      python -m loadtests search --serve books.onnx --slo p99=10ms,errors=0.1%
      python -m loadtests open   --target localhost:50051 --rate 500
      python -m loadtests closed --target localhost:50051 --in-flight 32
      python -m loadtests locust --serve books.onnx --slo p99=10ms,errors=0.1%

    Exit code 1: the objective was missed. Needs the extra `loadtest`.
    """


@cli.command("open")
@click.option("--rate", type=float, required=True, help="Requests per second.")
@_generator
def open_(rate: float, **options: Any) -> None:
    """Send at a mean rate, whatever the server does."""
    with _rig(**options) as (rig, _):
        step = generator.run(lambda: rig.open(rate))
    _say(step)
    sys.exit(bool(step.missed))


@cli.command()
@click.option("--in-flight", default=32, help="Requests at once.")
@_generator
def closed(in_flight: int, **options: Any) -> None:
    """Keep a number of requests in flight, to see the throughput."""
    with _rig(**options) as (rig, _):
        step = generator.run(lambda: rig.closed(in_flight))
    _say(step)
    sys.exit(bool(step.missed))


@cli.command("search", short_help="Find the highest rate that meets the objective.")
@click.option("--start", default=50.0, help="The first rate to try, per second.")
@click.option("--limit", default=20_000.0, help="The highest rate to try.")
@_generator
def search_(start: float, limit: float, **options: Any) -> None:
    """Find the highest rate that meets the objective; plot it as search.html."""
    with _rig(**options) as (rig, model):

        async def measure(rate: float) -> Step:
            step = await rig.open(rate)
            _say(step)
            return step

        load, *_ = os.getloadavg()
        result = generator.run(lambda: search(measure, start, limit))
    facts = {
        "Model": f"{model.name}@{model.version}: {model.num_trees} trees of depth up to "
        f"{model.max_depth}, {model.num_features} features, engine {model.engine}",
        "Asked by": f"{options['method']}, {options['seconds']:g} s a step",
        "Asked from": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} beforehand",
    }
    path = options["out"] / "search.html"
    path.write_text(report.page(result, options["slo"], facts), encoding="utf-8")
    click.echo(f"{result.rate:.0f} requests/s meet {options['slo']}; see {path}")
    if result.limited_by:
        click.echo(f"not the server's limit: {result.limited_by}")
    sys.exit(result.rate == 0.0)


@cli.command()
@_server
@_traffic
@_slo
@_out
@click.option("--users", default=20, help="At the peak.")
@click.option("--rate", default=5.0, help="Requests per second and user.")
@click.option("--seconds", default=60, help="Length of the run.")
@click.option("--shape", default="steady", type=click.Choice(list(SHAPES)), help="Load over time.")
def locust(
    serve: Path | None,
    target: str,
    metrics: str,
    replay: Path | None,
    deadline: float | None,
    out: Path,
    **options: Any,
) -> None:
    """Run locust's users headless; write locust.html and locust.json.

    Latency includes locust's own lateness, `late_ms` in locust.json: about a millisecond at the
    default rate on two cores. To find a server's limit use `search`, which costs less.
    """
    summary = out / "locust.json"
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)]
    command += ["--headless", "--only-summary", "--stop-timeout", str(STOP_TIMEOUT)]
    command += ["--html", str(out / "locust.html"), "--summary", str(summary)]
    command += ["--run-time", f"{options.pop('seconds')}s", "--spawn-rate", str(options["users"])]
    command += ["--replay", str(replay or ""), "--deadline", str(deadline or 0.0)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with _serving(serve, target, metrics, out) as server:
        before = Scrape.of(server.metrics) if server.metrics else None
        code = subprocess.run([*command, "--host", server.target], check=False).returncode
        after = Scrape.of(server.metrics) if server.metrics else None
    if before and after and summary.exists():
        found = json.loads(summary.read_text(encoding="utf-8"))
        share = asdict(ServerShare.between(before, after))
        found["server"] = {key: None if value != value else value for key, value in share.items()}
        summary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(code)


@contextmanager
def _serving(serve: Path | None, target: str, metrics: str, out: Path) -> Iterator[LocalServer]:
    out.mkdir(parents=True, exist_ok=True)
    if serve is None:
        yield LocalServer(target, metrics)
    else:
        with local_server(serve, out / "server.log") as server:
            yield server


@contextmanager
def _rig(
    serve: Path | None,
    target: str,
    metrics: str,
    replay: Path | None,
    deadline: float | None,
    method: str,
    seconds: float,
    slo: str,
    out: Path,
) -> Iterator[tuple[Rig, pb.Model]]:
    with _serving(serve, target, metrics, out) as server:
        with RankerClient(server.target, timeout=10.0) as client:
            model = client.get_model()
        rows = None if replay is None else load_rows(replay)
        traffic = Traffic(model, rows=rows, timeout=deadline)
        yield Rig(server.target, server.metrics, method, traffic, seconds, Slo.parse(slo)), model


def _say(step: Step) -> None:
    found = step.found
    p50, p99, p999 = (1e3 * found.latency.percentile(p) for p in (50, 99, 99.9))
    text = f"{found.rate:8.0f}/s  p50 {p50:.3g} ms  p99 {p99:.3g} ms  p99.9 {p999:.3g} ms"
    text += f"  failed {dict(found.failed) or 0}"
    if step.server:
        text += f"  engine {step.server.engine_utilization:.0%}  server {step.server.cpu:.2f} cores"
        text += f"  {step.server.batch_requests:.1f} requests a batch"
    click.echo(text)
    for line in (*step.missed, found.bottleneck):
        if line:
            click.echo(f"          {line}")


if __name__ == "__main__":
    try:
        cli()
    except (RankerError, RuntimeError, ValueError, OSError) as error:
        click.echo(f"loadtests: {error}", err=True)
        sys.exit(2)
