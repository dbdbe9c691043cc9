"""The dashboards: made from the catalogue, and Prometheus can answer each of their queries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from deploy.dashboards import generate
from ranker.metrics import catalogue
from ranker.metrics.metric import Kind, Metric
from tests.deploy.test_kubernetes import kustomized

PANELS = [panel for panels in generate.ROWS.values() for panel in panels]


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_dashboard_is_the_codes(name):
    assert (generate.FOLDER / name).read_text() == generate.PAGES[name](), "run: make docs"


def test_every_metric_is_shown_or_said_not_to_be():
    shown = {metric for panel in PANELS for metric in panel.metrics}
    assert shown | generate.NOT_SHOWN == set(catalogue.METRICS)
    assert not shown & generate.NOT_SHOWN


def test_panels_have_labels_that_their_metrics_have():
    for panel in PANELS:
        for metric in panel.metrics:
            assert set(panel.by) <= {*metric.labels, "pod"}, panel.title


def test_the_config_map_holds_the_dashboard():
    [document] = kustomized(generate.FOLDER)
    assert document["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(document["data"]["ranker.json"])["title"] == "Ranker"


def asked() -> Iterator[str]:
    """Each query of both dashboards, without variables."""
    for panel in json.loads(generate.grafana())["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "5m")
            yield text.replace("$namespace", ".*").replace("$pod", "a|b")
    for tile in json.loads(generate.cloud_monitoring())["mosaicLayout"]["tiles"]:
        for data in tile["widget"].get("xyChart", {}).get("dataSets", ()):
            text = data["timeSeriesQuery"]["prometheusQuery"]
            assert "$namespace" not in text
            yield text.replace("${__interval}", "5m")


def series(metric: Metric) -> Iterator[dict[str, str]]:
    """What two pods have of a metric."""
    for pod in ("a", "b"):
        labels = dict.fromkeys(metric.labels, "x") | {"pod": pod, "namespace": "books"}
        if "outcome" in labels:
            labels["outcome"] = "ok"
        text = ",".join(f'{name}="{value}"' for name, value in labels.items())
        if metric.kind is Kind.HISTOGRAM:
            for number, bound in enumerate((*metric.buckets, "+Inf"), start=1):
                yield {
                    "series": f'{metric.name}_bucket{{{text},le="{bound}"}}',
                    "values": f"0+{number}x30",
                }
        else:
            values = "0+10x30" if metric.kind is Kind.COUNTER else "5x30"
            yield {"series": f"{metric.name}{{{text}}}", "values": values}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: Debian's prometheus")
def test_prometheus_has_an_answer_to_every_query(tmp_path):
    queries = sorted(set(asked()))
    assert len(queries) > 2 * len(PANELS)
    test = {
        "interval": "1m",
        "input_series": [each for metric in catalogue.METRICS for each in series(metric)],
        "promql_expr_test": [
            {
                "expr": f"count(({query}) > 0) > bool 0",
                "eval_time": "20m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for query in queries
        ],
    }
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, re.sub(r"\n\s+\n", "\n", done.stdout + done.stderr)[:3000]
