"""`python -m loadtests`: load a server, and say how it fared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from benchmarks.harness import cost, h2load
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report
from benchmarks.harness.scrape import Scrape, ServerShare
from loadtests.search import Step, report_on, search
from loadtests.slo import Slo
from loadtests.traffic import traffic
from ranker.client import RankerClient
from ranker.errors import RankerError

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
STOP_TIMEOUT = 15
"""Seconds that locust's users have to finish what they are at."""
WARM_UP = (20.0, 1.0)
"""Requests per second, and seconds."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--serve", type=_FILE, help="An ONNX file to start a server for, on free ports."),
    click.option("--target", default="localhost:50051", help="A server that runs already."),
    click.option("--metrics", default="", help="The URL of its /metrics, for the server's share."),
    click.option("--slo", type=Slo.parse, default="p99=10ms,errors=0.1%", help="Objective."),
    click.option("--out", default="build/loadtest", type=_OUT, help="Where reports and logs go."),
)


def _command(function: Callable[..., None]) -> click.Command:
    for option in reversed(_OPTIONS):
        function = option(function)
    return cli.command(function.__name__.removesuffix("_rate"))(function)


@contextmanager
def _serving(serve: Path | None, target: str, metrics: str, out: Path) -> Iterator[tuple[str, str]]:
    """The address of a server, and that of its metrics."""
    out.mkdir(parents=True, exist_ok=True)
    if serve is None:
        yield target, metrics
    else:
        with RankerServer(str(serve), log=out / "server.log") as server:
            yield server.address, server.metrics_url


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Load a ranking server, and say how it fared.

    \b
      python -m loadtests search --serve books.onnx --slo p99=10ms,errors=0.1%
      python -m loadtests locust --serve books.onnx --slo p99=10ms,errors=0.1%

    Exit code 1: the objective was missed. Needs the extra `loadtest`.
    """


@_command
@click.option("--deadline", default=0.1, help="Of every request, in seconds.")
@click.option("--seconds", default=5.0, help="Length of a step.")
@click.option("--start", default=50.0, help="The first rate to try, per second.")
@click.option("--limit", default=20_000.0, help="The highest rate to try.")
def search_rate(
    serve: Path | None, target: str, metrics: str, slo: Slo, out: Path,
    deadline: float, seconds: float, start: float, limit: float,
) -> None:  # fmt: skip
    """Find the highest rate that meets the objective; write search.json and search.svg.

    Requests leave at the moments of a Poisson process, whatever the server does. Needs h2load
    (Debian: nghttp2-client) and the server's metrics: h2load reads no status.
    """
    h2load.required()
    if not serve and not metrics:
        raise click.UsageError("needs --metrics, which say how requests ended")
    with _serving(serve, target, metrics, out) as (address, page):
        report = Report("search", {"slo": slo.text, "seconds": seconds, "deadline": deadline})
        with RankerClient(address, timeout=3.0) as client:
            model = client.get_model()
        requests = traffic(model, count=h2load.PROCESSES)
        report.say(f"{model.name}@{model.version}: {model.num_trees} trees, engine {model.engine}")

        def measure(rate: float) -> Step:
            before = Scrape.of(page)
            calls = cost.offer(url, requests, rate, seconds, deadline)
            share = ServerShare.between(before, Scrape.of(page))
            click.echo(f"{rate:.0f}/s: p99 {1e3 * calls.percentile(99):.3g} ms", err=True)
            missed = slo.misses(share.requests, share.failures, calls.percentile)
            return Step(rate, calls, share, missed)

        cost.offer(url := f"http://{address}", requests, *WARM_UP)
        result = search(measure, start, limit)
    (out / "search.svg").write_text(report_on(result, slo.text, report))
    why = f"; not the server's limit: {result.limited_by}" if result.limited_by else ""
    report.say(f"{result.rate:.0f} requests/s meet {slo.text}{why}")
    report.write(out / "search.json")
    sys.exit(result.rate == 0.0)


@_command
@click.option("--deadline", default=0.0, help="Seconds; default: 0.05, 0.1 and 0.5, mixed.")
@click.option("--users", default=20, help="At the peak.")
@click.option("--rate", default=5.0, help="Requests per second and user.")
@click.option("--seconds", default=60, help="Length of the run.")
def locust(
    serve: Path | None, target: str, metrics: str, out: Path, seconds: int,
    **options: Any,
) -> None:  # fmt: skip
    """Run locust's users headless; write locust.html and locust.json.

    Latency includes locust's own lateness, `late_ms` in locust.json: about a millisecond at the
    default rate on two cores. To find a server's limit use `search`, which costs less.
    """
    summary = out / "locust.json"
    options |= {"html": out / "locust.html", "summary": summary, "slo": options["slo"].text}
    options |= {"run-time": f"{seconds}s", "spawn-rate": options["users"]}
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--only-summary", "--stop-timeout", str(STOP_TIMEOUT)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with _serving(serve, target, metrics, out) as (address, page):
        before = Scrape.of(page) if page else None
        code = subprocess.run([*command, "--host", address], check=False).returncode
        after = Scrape.of(page) if page else None
    if before and after and summary.exists():
        found = json.loads(summary.read_text())
        found["server"] = ServerShare.between(before, after)._asdict()
        summary.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    try:
        cli()
    except (RankerError, RuntimeError, ValueError, OSError) as error:
        click.echo(f"loadtests: {error}", err=True)
        sys.exit(2)
