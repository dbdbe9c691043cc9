"""What breaks, and for how long, when what a server depends on fails under load and reloads.

A server with two workers, whose models come from a bucket, has a ranking log and sends its metrics
to Google Cloud's API (both of this machine). `RankerClient` asks for a hundred lists a second, and
every two seconds another version is to be served, while one fault after the other lasts for some
seconds. It passes if each score has XGBoost's bits, the counters agree with the callers' and never
go back, no process dies that a fault does not kill, and all is well again within 15 seconds.

Runs in a network and with mounts of its own: needs Linux, root, iptables; for the clock's jumps
a C compiler.
"""

from __future__ import annotations

import click

from benchmarks.harness.report import Report, command
from tests.chaos import namespace
from tests.chaos.faults import FAULTS
from tests.chaos.trial import HEADS, Chaos


@command
@click.option("--only", multiple=True, type=click.Choice(list(FAULTS)), help="Repeat for more.")
@click.option("--seconds", default=5.0, help="That each fault lasts.")
def main(report: Report, only: tuple[str, ...], seconds: float) -> None:
    """Has each fault happen and prints a table."""
    namespace.enter()
    failures: list[str] = []
    with Chaos() as chaos:
        if not chaos.site.clock:
            report.say("no C compiler: the clock does not jump")
        table = report.table("fault", *HEADS)
        for name in chaos.possible(only):
            found = chaos.suffer(FAULTS[name], seconds)
            table.row(name, *found.cells())
            failures += [f"{name}: {failure}" for failure in found.failures]
    for failure in failures:
        report.say(f"FAILED: {failure}")
    if failures:
        raise click.ClickException("failed")
