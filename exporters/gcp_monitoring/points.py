"""Metrics in Cloud Monitoring's terms: descriptors, and time series of one point each.

A metric keeps its name: `ranker_requests_total` is
`custom.googleapis.com/ranker/requests_total`. Counters and histograms become
CUMULATIVE, everything else GAUGE. The bucket with the bound b counts what is at
most b here, and what is below b there; only values equal to a bound tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.api.distribution_pb2 import Distribution as DistributionProto
from google.api.label_pb2 import LabelDescriptor
from google.api.metric_pb2 import MetricDescriptor
from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.monitoring_v3 import TimeSeries
from google.protobuf.timestamp_pb2 import Timestamp

from ranker.metrics.families import Distribution, Family, Sample
from ranker.metrics.metric import Kind, Metric

TYPE_PREFIX = "custom.googleapis.com/ranker/"
"""What the types of all metrics begin with."""

# In UCUM, as descriptors want it; whatever is counted goes in braces.
_UNITS = {"seconds": "s", "bytes": "By", "1": "1"}


def metric_type(metric: Metric) -> str:
    """The metric's name in Cloud Monitoring."""
    return TYPE_PREFIX + metric.name.removeprefix("ranker_")


def descriptor(metric: Metric) -> MetricDescriptor:
    """What `CreateMetricDescriptor` is told of a metric."""
    return MetricDescriptor(
        type=metric_type(metric),
        metric_kind=_kind(metric),
        value_type=_value_type(metric),
        unit=_UNITS.get(metric.unit, f"{{{metric.unit}}}"),
        description=metric.help,
        display_name=metric.name,
        labels=[LabelDescriptor(key=label) for label in metric.labels],
    )


def time_series(
    families: Sequence[Family], resource: MonitoredResource, started: float, end: Timestamp
) -> Iterator[Any]:
    """One `google.monitoring.v3.TimeSeries` message, of one point, per sample.

    Counters and histograms that are still zero are left out: their first point
    will begin at the same time, so nothing is lost, and most never come. So are those that
    began at `end` or later, as it looks where the clock was set back: the service refuses them.

    Args:
        families: what to export.
        resource: what produced it.
        started: when counting began, in seconds since the Unix epoch.
        end: when `families` was read.

    Yields:
        Plain protobuf messages, not the client library's wrappers of them,
        which take many times as long to fill.
    """
    message = TimeSeries.pb()
    for family in families:
        metric = family.metric
        kind, value_type = _kind(metric), _value_type(metric)
        cumulative = kind == MetricDescriptor.CUMULATIVE
        for sample in family.samples:
            if cumulative and _is_zero(sample):
                continue
            series = message(metric_kind=kind, value_type=value_type)
            series.metric.type = metric_type(metric)
            series.metric.labels.update(zip(metric.labels, sample.labels, strict=True))
            series.resource.CopyFrom(resource)
            point = series.points.add()
            point.interval.end_time.CopyFrom(end)
            if cumulative:
                # Of a version that came back it is later. The service takes no value below the last
                # one with the same start.
                begin = round(max(started, sample.since) * 1e9)
                if begin >= end.ToNanoseconds():
                    continue
                point.interval.start_time.FromNanoseconds(begin)
            if isinstance(sample.value, Distribution):
                point.value.distribution_value.CopyFrom(_distribution(metric, sample.value))
            elif value_type == MetricDescriptor.INT64:
                point.value.int64_value = round(sample.value)
            else:
                point.value.double_value = sample.value
            yield series


def _kind(metric: Metric) -> MetricDescriptor.MetricKind:
    if metric.kind in (Kind.COUNTER, Kind.HISTOGRAM):
        return MetricDescriptor.CUMULATIVE
    return MetricDescriptor.GAUGE


def _value_type(metric: Metric) -> MetricDescriptor.ValueType:
    if metric.kind is Kind.HISTOGRAM:
        return MetricDescriptor.DISTRIBUTION
    if metric.kind is not Kind.INFO and metric.unit in ("seconds", "1"):
        return MetricDescriptor.DOUBLE
    return MetricDescriptor.INT64


def _is_zero(sample: Sample) -> bool:
    value = sample.value
    return value.count == 0 if isinstance(value, Distribution) else value == 0


def _distribution(metric: Metric, value: Distribution) -> DistributionProto:
    count = value.count
    return DistributionProto(
        count=count,
        mean=value.sum / count,
        bucket_options=DistributionProto.BucketOptions(
            explicit_buckets=DistributionProto.BucketOptions.Explicit(bounds=metric.buckets)
        ),
        bucket_counts=value.counts,
    )
