from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ranker.errors import Code
from ranker.metrics import catalogue as catalog
from ranker.metrics.metric import Kind

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy/prometheus"


def test_alerts_name_metrics_that_are_published():
    samples = {metric.name for metric in catalog.METRICS}
    samples |= {
        f"{metric.name}_bucket" for metric in catalog.METRICS if metric.kind is Kind.HISTOGRAM
    }
    named = set(re.findall(r"\branker_\w+", (PROMETHEUS / "alerts.yaml").read_text()))
    assert named
    assert named <= samples


def test_alerts_name_status_codes_that_exist():
    named = re.findall(r'code=~"([^"]*)"', (PROMETHEUS / "alerts.yaml").read_text())
    assert named
    for codes in named:
        assert set(codes.split("|")) <= {code.name for code in Code}


def test_the_objective_is_a_bound_of_the_histogram():
    bounds = re.findall(r'le="([\d.]+)"', (PROMETHEUS / "alerts.yaml").read_text())
    assert set(map(float, bounds)) == {0.02}
    assert 0.02 in catalog.REQUEST_DURATION.buckets


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: Debian's prometheus")
def test_alerts_fire_when_they_should_and_not_when_they_should_not():
    command = ["promtool", "test", "rules", "alerts_test.yaml"]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
