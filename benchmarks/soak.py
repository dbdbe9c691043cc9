"""A real server under mixed and hostile traffic: answers, counters, memory are held to account.

Callers send lists of 1 to 2000 candidates to a server with two models. Some behave. Some cancel,
have too little time, stop reading, send broken messages or none, connect and fall silent at any
stage, speak other protocols, or are killed (SIGKILL) with requests in flight.

They come three times, and leave. It passes if every answer was XGBoost's ranking, the scores bit
for bit; every request was answered with the status that its caller deserved; nothing was logged as
a warning or an error; each time the callers have left, file descriptors and threads are back to
where they began, nothing is in flight or queued, and the server's counters agree with its callers'
own; after the last time the server at rest, when workers have given free memory back, holds little
more than after the second; and it ended with exit code 0.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks.harness.launch import RankerServer, Usage
from benchmarks.harness.report import Report, command
from benchmarks.soak_callers import callers
from benchmarks.soak_callers.desk import PATIENCE, Counts, Desk, Tally, disagreements, write_models

HABITS: tuple[tuple[Callable[[Desk], None], float], ...] = (
    *[(callers.steady_unary, 0.04)] * 3,
    *[(callers.steady_stream, 1.0)] * 2,
    (callers.cancelling_unary, 0.04),
    (callers.late_unary, 0.04),
    (callers.late_stream, 2.0),
    (callers.cancelling_stream, 0.5),
    (callers.unread_stream, 10.0),
    (callers.broken_messages, 2.0),
    (callers.broken_stream, 2.0),
    (callers.headers_alone, 1.0),
)
"""What the callers do, one thread each, and their mean pause in seconds."""
INTRUSION, KILL = 0.3, 8.0
"""Mean seconds between bad connections, and between kills."""
SETTLE_SECONDS = 90.0
"""For the server to notice that all have left; a connection lost without a word takes 50."""
TIMES = 3
MORE_FDS, MORE_THREADS = 4, 4
"""What gRPC may keep, once used, beyond what an idle server has at first."""
MIB = 2**20
GROWTH = {"core": 1.0, "aio": 3.0}
"""MiB that it may hold more. On aio gRPC loses some with each call that is given up
(`tests/transport/test_aio_leak.py`), and the pages that those bytes are in."""


def repeat(act: Callable[[], None], pause: float, over: threading.Event, desk: Desk) -> None:
    """Acts until all is over, at random intervals."""
    while not over.wait(desk.dice.exponential(pause)):
        try:
            act()
        except Exception as error:  # the others go on; the soak has failed all the same
            desk.tally.fail(f"{type(error).__name__}: {error}")


def traffic(
    server: RankerServer, folder: Path, seconds: float, seed: int, tally: Tally
) -> list[Usage]:
    """Lets the callers loose; returns what the server held meanwhile."""
    over, samples = threading.Event(), list[Usage]()
    dice = np.random.default_rng(seed).spawn(len(HABITS) + 2)
    desks = [Desk(server.address, folder, tally, each) for each in dice]
    # Some of the silent connections outlast the server's patience, which is 50 s.
    guests, killers = (callers.Intruders(desk, min(100.0, seconds / 3)) for desk in desks[-2:])
    acts: list[tuple[Callable[[], None], float]] = [
        (partial(act, desk), pause) for (act, pause), desk in zip(HABITS, desks, strict=False)
    ]
    acts += [(guests.connect, INTRUSION), (killers.kill, KILL)]
    threads = [
        threading.Thread(target=repeat, daemon=True, args=(act, pause, over, desk))
        for (act, pause), desk in zip(acts, desks, strict=True)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(2.0, seconds / 30))
        samples.append(server.usage())
        if len(samples) % 5 == 0:
            click.echo(f"{sum(list(tally.counts.values())):,} requests; {samples[-1]}", err=True)
    over.set()
    for thread in threads:
        thread.join(2 * PATIENCE)
        if thread.is_alive():
            raise RuntimeError("a caller does not end: a request is unanswered")
    for desk in desks:
        desk.channel.close()
    return samples


def traces(server: RankerServer, counts: Counts, idle: Usage) -> list[str]:
    """What is still there of the callers once all have left."""
    limit = time.monotonic() + SETTLE_SECONDS
    while True:
        wrong, held = disagreements(counts, server.scrape()), server.usage()
        if held.fds > idle.fds + MORE_FDS:
            wrong.append(f"{held.fds} file descriptors are open, {idle.fds} at first")
        if held.threads > idle.threads + MORE_THREADS:
            wrong.append(f"{held.threads} threads run, {idle.threads} at first")
        if not wrong or time.monotonic() > limit:
            return wrong
        time.sleep(0.5)


@command
@click.option("--minutes", default=10.0)
@click.option("--transport", type=click.Choice(["core", "aio"]), default="core")
@click.option("--growth", type=float, help="Of memory at rest, in MiB.  [default: 1; aio: 3]")
@click.option("--rest", default=25.0, help="Seconds until free memory has been given back.")
@click.option("--log", type=click.Path(path_type=Path), help="Keep the server's log there.")
def main(
    report: Report, minutes: float, transport: str, growth: float, rest: float, log: Path | None
) -> None:
    """Runs a soak and says whether it passed."""
    failures, tally, samples, rests = list[str](), Tally(), list[Usage](), list[Usage]()
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), log or Path(name) / "server.log"
        options = f"--http-port 0 --log-format text --transport {transport}"
        try:
            with RankerServer(*write_models(folder), *options.split(), log=log) as server:
                server.scrape()  # has the office open what it needs for that
                idle = server.usage()
                for number in range(TIMES):
                    samples += traffic(server, folder, 60 * minutes / TIMES, number, tally)
                    failures += traces(server, tally.counts, idle)
                    time.sleep(rest)
                    rests.append(server.usage())
            report.say(f"at first {idle}; at rest {'; '.join(map(str, rests))}")
            failures += tally.failures
            table = report.table("requests for", "ended as", "number")
            for (model, status), number in sorted(tally.counts.items()):
                table.row(model, status, number)
            table = report.table("memory at most, MiB", "more at rest", "fds at most")
            gained = (rests[-1].rss - rests[-2].rss) / MIB
            table.row(max(each.rss for each in samples) / MIB, gained, max(s.fds for s in samples))
            if gained > (growth or GROWTH[transport]):
                failures.append(f"memory grew by {gained:.1f} MiB")
        except RuntimeError as error:
            failures.append(str(error))
        logged = re.findall(r"^.* (?:ERROR|CRITICAL|WARNING) .*$", log.read_text(), re.MULTILINE)
        failures += [f"the server logged: {line}" for line in logged]
    for failure, number in Counter(failures).items():
        report.say(f"FAILED: {failure}" + (f" ({number} times)" if number > 1 else ""))
    if failures:
        raise click.ClickException("failed")
    report.say("passed")
