"""The autoscaler through a spike of four times the load: pods and p99 over time, simulated.

    python deploy/autoscaling/simulate.py

The Kubernetes autoscaler's documented algorithm (every 15 s: tolerance of 0.1, pods that are not
ready count as idle when it scales up, limits and windows of the manifest's `behavior`) over pods
whose utilisation and p99 at each load were measured: `curve.json` has them, and how. What a pod
can't answer in time it refuses. Draws the chart and prints the table of docs/operations.md.
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

CURVE = Path(__file__).with_name("curve.json")
CHART = Path(__file__).parents[2] / "docs/images/autoscaler.svg"
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9)
DEADLINE, SLO = 0.05, 0.02
"""Seconds: after which callers wait no longer, and that answers should take at most."""
SYNC, START, METRIC_AGE, TOLERANCE = 15, 30, 15, 0.1
"""Seconds between decisions, until a new pod is ready, and that the metric is old; and the
autoscaler's default tolerance."""
STABLE, LEAST_PODS, MOST_PODS = 300, 2, 100
BASE_PODS, SPIKE, BEGINS, LASTS, SECONDS = 3.0, 4.0, 300, 900, 2400
"""What the load takes at full capacity, in pods; how it grows, when, and for how long."""


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

    @classmethod
    def measured(cls) -> Pod:
        """What `curve.json` says."""
        curve = json.loads(CURVE.read_text())
        p99s = [each / 1e3 for each in curve["p99_ms"]]
        return cls(curve["load"], curve["utilization"], p99s)

    def utilization(self, share: float) -> float:
        """What the metric says."""
        return float(np.interp(share, self.shares, self.utilizations))

    def p99(self, share: float) -> float:
        """In seconds; beyond what it can do, answers come just in time."""
        if share >= 1:
            return DEADLINE
        return min(DEADLINE, float(np.interp(share, self.shares, self.p99s)))


def load_at(second: int) -> float:
    """What the load takes, in pods that do all that they can."""
    return BASE_PODS * (SPIKE if BEGINS <= second < BEGINS + LASTS else 1.0)


def simulate(target: float, pod: Pod) -> list[Moment]:
    """Every second of a spike."""
    first = math.ceil(BASE_PODS / target)
    ready_at, metric, wanted = [0] * first, list[float](), list[tuple[int, int]]()
    moments = list[Moment]()
    counts = list[int]()  # pods, ready or not, by second
    for now in range(SECONDS):
        ready = sum(at <= now for at in ready_at)
        share = load_at(now) / ready
        metric.append(pod.utilization(share))
        moments.append(Moment(ready, pod.p99(share), max(0.0, 1 - 1 / share)))
        counts.append(len(ready_at))
        if now % SYNC or now < SYNC + METRIC_AGE:
            continue
        seen = float(np.mean(metric[now - METRIC_AGE - 10 : now - METRIC_AGE]))
        pods = len(ready_at)
        wanted.append((now, recommended(pods, ready, seen / target)))
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


def recommended(pods: int, ready: int, ratio: float) -> int:
    """How many pods the autoscaler's formula asks for."""
    if abs(ratio - 1) <= TOLERANCE:
        return pods
    if ratio > 1 and ready < pods:  # those that are not ready count as idle
        ratio *= ready / pods
        return pods if ratio <= 1 + TOLERANCE else math.ceil(pods * ratio)
    return math.ceil(ready * ratio)


def row(found: list[Moment]) -> tuple[str, ...]:
    """A row of the table."""
    refused = np.array([moment.refused for moment in found])
    load = np.array([load_at(second) for second in range(SECONDS)])
    return (
        f"{1e3 * found[BEGINS - 1].p99:.1f}",
        f"{sum(moment.p99 > SLO for moment in found)}",
        f"{(refused > 0).sum()}",
        f"{(refused * load).sum() / load.sum():.1%}".replace("%", " %"),
        f"{sum(moment.pods for moment in found) / 60:.0f}",
    )


def main() -> None:
    """Prints the table and draws the chart."""
    import matplotlib.pyplot as plt

    pod = Pod.measured()
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 6))
    for target in TARGETS:
        found = simulate(target, pod)
        click.echo(f"| {target} | {' | '.join(row(found))} |")
        above.plot([moment.pods for moment in found], label=f"target {target}")
        below.semilogy([1e3 * moment.p99 for moment in found])
    above.set_ylabel("pods that are ready")
    above.legend()
    below.set(ylabel="p99, ms", xlabel="seconds")
    plt.rcParams["svg.hashsalt"] = "autoscaler"
    figure.savefig(CHART, metadata={"Date": None})


if __name__ == "__main__":
    main()
