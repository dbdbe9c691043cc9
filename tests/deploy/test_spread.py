"""How connections spread over workers, and what the docs say of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from deploy.scaling import spread

ROOT = Path(__file__).parents[2]
SCALING = (ROOT / "docs/scaling.md").read_text()


@pytest.mark.parametrize("per_worker", spread.PER_WORKER, ids=str)
def test_the_table_is_what_comes_out(per_worker):
    row = re.search(rf"(?m)^\| {per_worker} \| (.*) \|$", SCALING)
    assert row is not None
    assert row[1].split(" | ") == spread.row(per_worker)


def test_the_utilization_is_the_autoscalers():
    manifest = yaml.safe_load((ROOT / "deploy/kubernetes/base/autoscaler.yaml").read_text())
    targets = {
        metric["pods"]["metric"]["name"]: metric["pods"]["target"]["averageValue"]
        for metric in manifest["spec"]["metrics"]
        if metric["type"] == "Pods"
    }
    assert targets["ranker_worker_utilization_ratio"] == f"{spread.UTILIZATION * 1000:.0f}m"


def test_two_connections_to_two_workers():
    """Half of the time each has one; else one has both, and at 0.6 a fifth of 1.2 is too much."""
    found = spread.spread(1, 2)
    assert found.usable == pytest.approx(0.75, abs=0.02)
    assert found.beyond == pytest.approx(0.5 * 0.2 / 1.2, abs=0.005)


def test_many_connections_are_spread_evenly():
    found = spread.spread(10_000, 2)
    assert found.usable > 0.98
    assert found.beyond == 0.0


def test_more_workers_need_more_connections():
    usable = np.array([[spread.spread(n, w).usable for w in spread.WORKERS] for n in (1, 16, 64)])
    assert (np.diff(usable, axis=0) > 0).all()
    assert (np.diff(usable, axis=1) < 0).all()
