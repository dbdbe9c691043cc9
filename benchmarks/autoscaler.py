"""The autoscaler through a spike of four times the load: pods and p99 over time, simulated.

The Kubernetes autoscaler's documented algorithm (every 15 s: tolerance of 0.1, pods that are not
ready count as idle when it scales up, limits and windows of the manifest's `behavior`) over pods
whose utilisation and p99 at each load are first measured, as `NAME=utilization` does. What a pod
can't answer in time it refuses.
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from benchmarks import utilization
from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer
from benchmarks.harness.report import Report, Rounds, command

SYNC, START, METRIC_AGE, TOLERANCE = 15, 30, 15, 0.1
"""Seconds between decisions, until a new pod is ready, and that the metric is old; and the
autoscaler's default tolerance."""
STABLE, LEAST_PODS, MOST_PODS = 300, 2, 100
BASE_PODS, SPIKE, BEGINS, LASTS, SECONDS = 3.0, 4.0, 300, 900, 2400
"""What the load takes at full capacity, in pods; how it grows, when, and for how long."""
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of what a pod can do: where it is measured."""
SLO = 0.01
"""Seconds."""


class Moment(NamedTuple):
    """One second: the pods that are ready, the p99 of what is answered, the share refused."""

    pods: int
    p99: float
    refused: float


class Pod(NamedTuple):
    """What one pod shows and does at shares of what it can do, in ascending order."""

    shares: list[float]
    utilizations: list[float]
    p99s: list[float]

    def utilization(self, share: float) -> float:
        """What the metric says."""
        return float(np.interp(share, self.shares, self.utilizations))

    def p99(self, share: float, deadline: float) -> float:
        """In seconds; beyond what it can do, answers come just in time."""
        return deadline if share >= 1 else float(np.interp(share, self.shares, self.p99s))


def measure(report: Report, candidates: int, seconds: float, rounds: int) -> Pod:
    """Measures a real server."""
    trained, found = Trained(SERVED), Rounds()
    requests = trained.requests(candidates, count=h2load.PROCESSES)
    with RankerServer(str(trained.onnx()), cores=machine.share_cores()) as server:
        cost.flat_out(server, requests, cost.WARM_UP_SECONDS)
        for _ in report.rounds(rounds):
            for share in SHARES:
                figures = utilization.measure(server, requests, share, seconds)
                found.note(f"{share:g}", figures)
    found.show(report, "asked for", f"{candidates} candidates")
    medians = [found.medians(each) for each in found.things()]
    used, p99s = ([each[name] for each in medians] for name in ("utilisation", "p99 ms"))
    return Pod(list(SHARES), used, [each / 1e3 for each in p99s])


def simulate(target: float, pod: Pod, deadline: float) -> list[Moment]:
    """Every second of a spike."""
    first = math.ceil(BASE_PODS / target)
    ready_at, metric, wanted = [0] * first, list[float](), list[tuple[int, int]]()
    moments = list[Moment]()
    counts = list[int]()  # pods, ready or not, by second
    for now in range(SECONDS):
        load = BASE_PODS * (SPIKE if BEGINS <= now < BEGINS + LASTS else 1.0)
        ready = sum(at <= now for at in ready_at)
        share = load / ready
        metric.append(pod.utilization(share))
        moments.append(Moment(ready, pod.p99(share, deadline), max(0.0, 1 - 1 / share)))
        counts.append(len(ready_at))
        if now % SYNC or now < SYNC + METRIC_AGE:
            continue
        seen = float(np.mean(metric[now - METRIC_AGE - 10 : now - METRIC_AGE]))
        pods = len(ready_at)
        wanted.append((now, _recommended(pods, ready, seen / target)))
        ceiling = counts[now - SYNC] + max(counts[now - SYNC], 4)
        lasting = max(count for at, count in wanted if at > now - STABLE)
        before = max(counts[max(0, now - 60) :])
        floor = before - max(1, math.floor(before * 0.1))
        desired = min(wanted[-1][1], ceiling) if wanted[-1][1] > pods else max(lasting, floor)
        desired = min(max(desired, LEAST_PODS), MOST_PODS)
        if desired > pods:
            ready_at += [now + START] * (desired - pods)
        elif wanted[-1][1] < pods:
            del ready_at[desired:]
    return moments


def _recommended(pods: int, ready: int, ratio: float) -> int:
    """How many pods the autoscaler's formula asks for."""
    if abs(ratio - 1) <= TOLERANCE:
        return pods
    if ratio > 1 and ready < pods:  # those that are not ready count as idle
        ratio *= ready / pods
        return pods if ratio <= 1 + TOLERANCE else math.ceil(pods * ratio)
    return math.ceil(ready * ratio)


@command
@click.option("--target", "targets", multiple=True, type=float, default=(0.5, 0.6, 0.7, 0.8, 0.9))
@click.option("--candidates", default=100)
@click.option("--seconds", default=2.0, help="For each load that is measured.")
@click.option("--rounds", default=3)
@click.option("--deadline-ms", default=50.0)
@click.option("--folder", default="build", type=click.Path(path_type=Path), help="For the chart.")
def main(
    report: Report, targets: tuple[float, ...], candidates: int, seconds: float, rounds: int,
    deadline_ms: float, folder: Path,
) -> None:  # fmt: skip
    """Measures, simulates, prints a row per target, and draws a chart."""
    import matplotlib.pyplot as plt

    h2load.required()
    pod = measure(report, candidates, seconds, rounds)
    table = report.table(
        "target", "p99 ms before", "s above 10 ms", "s that refuse", "refused of all", "pod minutes"
    )
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 6))
    for target in targets:
        found = simulate(target, pod, deadline_ms / 1e3)
        refused = np.array([moment.refused for moment in found])
        load = np.where((np.arange(SECONDS) // 1 - BEGINS) % SECONDS < LASTS, SPIKE, 1.0)
        late = sum(moment.p99 > SLO for moment in found)
        pods = sum(moment.pods for moment in found) / 60
        share = float((refused * load).sum() / load.sum())
        before = 1e3 * found[BEGINS - 1].p99
        table.row(f"{target:g}", before, late, int((refused > 0).sum()), share, pods)
        above.plot([moment.pods for moment in found], label=f"target {target:g}")
        below.semilogy([1e3 * moment.p99 for moment in found])
    above.set_ylabel("pods that are ready")
    above.legend()
    below.set(ylabel="p99, ms", xlabel="seconds")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "autoscaler.svg")
    report.say(f"The chart is in {folder / 'autoscaler.svg'}.")
