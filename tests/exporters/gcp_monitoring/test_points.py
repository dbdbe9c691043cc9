"""What GCP Monitoring is told about each metric: its type, kind, unit and labels."""

from typing import Any

import pytest

pytest.importorskip("google.cloud.monitoring_v3", reason="the extra gcp is not installed")

from google.api.metric_pb2 import MetricDescriptor

from exporters.gcp_monitoring.points import descriptor
from ranker.metrics import catalogue as catalog
from ranker.metrics.metric import Kind, Metric


@pytest.mark.parametrize("metric", catalog.METRICS, ids=lambda metric: metric.name)
def test_descriptor(metric: Metric):
    made = descriptor(metric)
    assert made.type.startswith("custom.googleapis.com/ranker/")
    cumulative = metric.kind in (Kind.COUNTER, Kind.HISTOGRAM)
    assert (made.metric_kind == MetricDescriptor.CUMULATIVE) == cumulative
    histogram = metric.kind is Kind.HISTOGRAM
    assert (made.value_type == MetricDescriptor.DISTRIBUTION) == histogram
    fraction = metric.kind is not Kind.INFO and metric.unit in ("seconds", "1")
    if not histogram:
        expected: Any = MetricDescriptor.DOUBLE if fraction else MetricDescriptor.INT64
        assert made.value_type == expected
    units = {"seconds": "s", "bytes": "By", "1": "1", "requests": "{requests}", "rows": "{rows}"}
    assert made.unit == units.get(metric.unit, made.unit)
    assert [label.key for label in made.labels] == list(metric.labels)
