"""What GCP Monitoring is told about each metric: its type, kind, unit and labels."""

from typing import Any

import pytest

pytest.importorskip("google.cloud.monitoring_v3", reason="the extra gcp is not installed")

from google.api.metric_pb2 import MetricDescriptor
from google.api.monitored_resource_pb2 import MonitoredResource
from google.protobuf.timestamp_pb2 import Timestamp

from exporters.gcp_monitoring.points import descriptor, time_series
from ranker.metrics import catalogue as catalog
from ranker.metrics.families import Family, Sample
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


def test_what_began_later_than_the_point_ends_is_left_out():
    """The clock was set back. The service refuses intervals that don't begin before they end."""
    counter, gauge = catalog.WORKER_RESTARTS, catalog.QUEUE_ROWS
    samples = [Sample((), 1.0, since=since) for since in (0.0, 99.0, 100.0, 160.0)]
    series = list(
        time_series(
            [Family(counter, samples), Family(gauge, [Sample((), 5.0)])],
            MonitoredResource(),
            started=50.0,
            end=Timestamp(seconds=100),
        )
    )
    begins = [each.points[0].interval.start_time.seconds for each in series]
    assert begins == [50, 99, 0]
    assert series[2].points[0].value.int64_value == 5
