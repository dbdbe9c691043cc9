"""The autoscaler through a spike of four times the load, simulated: what docs/operations.md says.

The Kubernetes autoscaler's documented algorithm (every 15 s: tolerance of 0.1, pods that are not
ready count as idle when it scales up, limits and windows of the manifest's `behavior`) over pods
whose turns take `TURN` and `LIST` per list, as measured. What a pod can't answer in time it
refuses. One second follows the other.
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ranker.serving.loop_load import FULL_TURN

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
TURN, LIST, DEADLINE = 185e-6, 60e-6, 0.05
"""Seconds."""
SYNC, START, METRIC_AGE, TOLERANCE = 15, 30, 15, 0.1
"""Seconds between decisions, until a new pod is ready, and that the metric is old; and the
autoscaler's default tolerance."""
STABLE, LEAST_PODS, MOST_PODS = 300, 2, 100
BASE_PODS, SPIKE, BEGINS, LASTS, SECONDS = 3.0, 4.0, 300, 900, 2400
"""What the load takes at full capacity, in pods; how it grows, when, and for how long."""
SLO = 0.01
"""Seconds."""


class Moment(NamedTuple):
    """One second: the pods that are ready, the p99 of what is answered, the share refused."""

    pods: int
    p99: float
    refused: float


@pytest.fixture(scope="module")
def latency() -> Callable[[float], float]:
    """The p99 of one pod, in seconds, at a share of what it can do."""
    shares = np.append(np.arange(0.05, 1.0, 0.05), 0.98)
    capacity = FULL_TURN / (TURN + LIST * FULL_TURN)
    found = [p99(share * capacity) for share in shares]
    return lambda share: DEADLINE if share >= 1 else float(np.interp(share, shares, found))


def p99(rate: float, lists: int = 20_000) -> float:
    """Of lists that come at random, where a turn takes all that wait, up to two full turns."""
    chance, now, begin, took = random.Random(1), 0.0, 0, list[float]()
    arrivals = np.cumsum([chance.expovariate(rate) for _ in range(lists)])
    while begin < lists:
        now = max(now, arrivals[begin])
        end = min(int(np.searchsorted(arrivals, now, "right")), begin + 2 * FULL_TURN)
        now += TURN + LIST * (end - begin)
        took.extend(now - arrivals[begin:end])
        begin = end
    return float(np.percentile(took, 99))


def load_at(second: int) -> float:
    """What the load takes, in pods that do all that they can."""
    return BASE_PODS * (SPIKE if BEGINS <= second < BEGINS + LASTS else 1.0)


def simulate(target: float, latency: Callable[[float], float]) -> list[Moment]:
    """Every second of a spike."""
    first = math.ceil(BASE_PODS / target)
    ready_at, metric, wanted = [0] * first, list[float](), list[tuple[int, int]]()
    moments = list[Moment]()
    counts = list[int]()  # pods, ready or not, by second
    for now in range(SECONDS):
        ready = sum(at <= now for at in ready_at)
        share = load_at(now) / ready
        metric.append(min(share, 1.0))
        moments.append(Moment(ready, latency(share), max(0.0, 1 - 1 / share)))
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


@pytest.mark.parametrize("target", [0.5, 0.6, 0.7, 0.8, 0.9], ids=str)
def test_the_table_of_targets_is_what_comes_out(target, latency):
    found = simulate(target, latency)
    refused = np.array([moment.refused for moment in found])
    load = np.array([load_at(second) for second in range(SECONDS)])
    row = (
        f"{1e3 * found[BEGINS - 1].p99:.1f}",
        f"{sum(moment.p99 > SLO for moment in found)}",
        f"{(refused > 0).sum()}",
        f"{(refused * load).sum() / load.sum():.1%}".replace("%", " %"),
        f"{sum(moment.pods for moment in found) / 60:.0f}",
    )
    table = re.search(rf"(?m)^\| \**{target}\** \| (.*) \|$", OPERATIONS.read_text())
    assert table is not None
    assert tuple(table[1].split(" | ")) == row
