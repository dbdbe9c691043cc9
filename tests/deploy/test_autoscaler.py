"""The settings of the autoscaler are what the simulation of a spike gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deploy.autoscaling import simulate

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("target", simulate.TARGETS, ids=str)
def test_the_table_of_targets_is_what_comes_out(target):
    found = simulate.simulate(target, simulate.Pod.measured())
    operations = (ROOT / "docs/operations.md").read_text()
    table = re.search(rf"(?m)^\| \**{target}\** \| (.*) \|$", operations)
    assert table is not None
    assert tuple(table[1].split(" | ")) == simulate.row(found)


def test_the_simulation_has_the_manifests_behavior():
    """Up by 100 % or four pods in 15 s, down by a tenth in a minute after five."""
    manifest = yaml.safe_load((ROOT / "deploy/kubernetes/base/autoscaler.yaml").read_text())
    behavior = manifest["spec"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == simulate.STABLE
    assert manifest["spec"]["minReplicas"] == simulate.LEAST_PODS
    policies = [
        [(each["type"], each["value"], each["periodSeconds"]) for each in behavior[way]["policies"]]
        for way in ("scaleUp", "scaleDown")
    ]
    assert policies == [
        [("Percent", 100, simulate.SYNC), ("Pods", 4, simulate.SYNC)],
        [("Percent", 10, 60), ("Pods", 1, 60)],
    ]
