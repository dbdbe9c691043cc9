"""A real server under mixed and hostile traffic: answers, counters, memory are held to account.

    make soak

Client processes send lists of 1 to 2000 candidates (log-normal) in unary calls and
streams to a server with two models, of 500 and 100 trees of depth 6. Some behave.
Some cancel in mid-flight, have too little time, stop reading, send broken or
misshapen messages or no message at all, connect and fall silent at any stage, speak
other protocols, or are killed (SIGKILL) with requests in flight. The exit code is 0 if

- every answer was XGBoost's ranking, the scores bit for bit;
- every request was answered with the status that its caller deserved;
- nothing was logged as a warning or an error;
- resident memory did not grow: its median in the last third of the time is at most
  `--growth` MiB above that in the middle third (the first third is warm-up);
- after the callers have left, file descriptors and threads are back to where they
  began, nothing is in flight or queued, and the server's counters agree with
  its callers' own;
- the server ended with exit code 0.

Further arguments, after `--`, go to `ranker serve`.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.soak import models
from benchmarks.soak.crowd import Crowd, Plan
from benchmarks.soak.tally import ABANDONED, disagreements
from benchmarks.soak.watch import MIB, Growth, Sample, Watch
from loadtests.local_server import LocalServer, local_server
from loadtests.scrape import Scrape

PROGRESS = 10.0
"""Seconds between two lines."""

SETTLE = 90.0
"""Seconds that the server may take to notice that everybody has left.

Its keepalive finds a connection that was lost without a word after 50.
"""

MORE_FDS, MORE_THREADS = 4, 4
"""What gRPC may keep, once used, beyond what an idle server has at first."""


def soak(server: LocalServer, folder: Path, options: argparse.Namespace) -> list[str]:
    """Runs the traffic and judges.

    Args:
        server: just started.
        folder: of the queries.
        options: see `main`.

    Returns:
        What went wrong.
    """
    seconds = 60 * options.minutes
    crowd = Crowd(
        # Some of the silent connections outlast the server's patience, which is 50 s.
        Plan(server.target, folder, options.pace, longest_silence=min(100.0, seconds / 3))
    )
    with Watch(server.pid, min(2.0, seconds / 30)) as watch:
        idle = watch.look()
        print(f"idle: {idle}", flush=True)
        crowd.begin()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(min(PROGRESS, seconds - passed))
            crowd.collect()
            _progress(time.monotonic() - began, crowd, watch.samples[-1])
        samples = watch.samples[:]
        crowd.leave()
        failures = crowd.failures
        left_at = time.monotonic()
        settled, left = _settle(watch, idle, crowd, server)
        failures += left
    print(f"{time.monotonic() - left_at:.0f} s after all have left: {settled}")
    growth = Growth.of(samples)
    if growth.gained > options.growth * MIB:
        failures.append(f"memory grew by {growth.gained / MIB:.1f} MiB")
    _report(samples, growth, crowd)
    return failures


def _settle(
    watch: Watch, idle: Sample, crowd: Crowd, server: LocalServer
) -> tuple[Sample, list[str]]:
    """Waits until all traces of the crowd are gone; returns the last look and what stays."""
    end = time.monotonic() + SETTLE
    while True:
        failures = disagreements(crowd.counts, Scrape.of(server.metrics))
        now = watch.look()
        if now.fds > idle.fds + MORE_FDS:
            failures.append(f"{now.fds} file descriptors are open, {idle.fds} at first")
        if now.threads > idle.threads + MORE_THREADS:
            failures.append(f"{now.threads} threads run, {idle.threads} at first")
        if not failures or time.monotonic() > end:
            return now, failures
        time.sleep(0.5)


def _progress(passed: float, crowd: Crowd, sample: Sample) -> None:
    right = sum(number for (_, status), number in crowd.counts.items() if status == "OK")
    given_up = sum(n for (_, status), n in crowd.counts.items() if status == ABANDONED)
    refused = crowd.counts.total() - right - given_up
    print(
        f"{passed:5.0f} s: {right:,} right answers, {refused:,} refusals, {given_up:,} abandoned, "
        f"{len(crowd.failures)} failures; {sample}, {sample.cpu / sample.seconds:.2f} cores",
        flush=True,
    )


def _report(samples: list[Sample], growth: Growth, crowd: Crowd) -> None:
    """Prints what happened."""
    print("\n| requests for | ended as | |\n|---|---|---|")
    for (model, status), number in sorted(crowd.counts.items()):
        print(f"| {model} | {status} | {number:,} |")
    every = max(1, len(samples) // 20)
    print("\nresident MiB:", *(f"{sample.rss / MIB:.1f}" for sample in samples[::every]))
    for what, of in (("fds", "fds"), ("threads", "threads")):
        values = [getattr(sample, of) for sample in samples]
        print(f"{what}: {min(values)} to {max(values)}")
    print(
        f"median of the middle third {growth.middle / MIB:.1f} MiB, of the last "
        f"{growth.last / MIB:.1f} MiB; slope {60 * growth.slope / MIB:+.3f} MiB a minute"
    )


def main() -> int:
    """Runs a soak; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument(
        "--transport", choices=("core", "aio"), default="core", help="default: core"
    )
    parser.add_argument(
        "--pace", type=float, default=1.0, help="2: callers act twice as often (default: 1)"
    )
    parser.add_argument(
        "--growth", type=float, default=4.0, metavar="MIB", help="of resident memory (default: 4)"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the server's log there")
    parser.add_argument("serve", nargs="*", help="arguments for `ranker serve`, after --")
    options = parser.parse_args()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, *others = map(str, models.write(folder))
        log = options.log or folder / "server.log"
        arguments = [*others, "--transport", options.transport, *options.serve]
        try:
            with local_server(Path(first), log, *arguments) as server:
                failures += soak(server, folder, options)
        except RuntimeError as error:
            failures.append(str(error))
        logged = re.findall(r"^.* (?:ERROR|CRITICAL|WARNING) .*$", log.read_text(), re.MULTILINE)
        failures += [f"the server logged: {line}" for line in logged]
    for failure, number in Counter(failures).items():
        print(f"FAILED: {failure}" + (f" ({number} times)" if number > 1 else ""))
    print("failed" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
