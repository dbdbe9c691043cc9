"""The local MetricService refuses what the API's rules forbid: or it would prove nothing."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("google.cloud.monitoring_v3", reason="the extra gcp is not installed")

import grpc
from google.api.label_pb2 import LabelDescriptor
from google.api.metric_pb2 import MetricDescriptor
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument
from google.cloud.monitoring_v3 import (
    CreateMetricDescriptorRequest,
    CreateTimeSeriesRequest,
    CreateTimeSeriesSummary,
    MetricServiceClient,
    TimeSeries,
)
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from tests.exporters.gcp_monitoring.metric_service import LocalMetricService

NOW = time.time_ns()
START = NOW - 100 * 10**9
COUNTER = "custom.googleapis.com/test/counter"
GAUGE = "custom.googleapis.com/test/gauge"
HISTOGRAM = "custom.googleapis.com/test/histogram"


@pytest.fixture
def service() -> Iterator[LocalMetricService]:
    service = LocalMetricService()
    yield service
    service.stop()


@pytest.fixture
def client(service: LocalMetricService) -> MetricServiceClient:
    channel = grpc.insecure_channel(service.address)
    client = MetricServiceClient(transport=MetricServiceGrpcTransport(channel=channel))
    for type_, kind, value_type in (
        (COUNTER, MetricDescriptor.CUMULATIVE, MetricDescriptor.INT64),
        (GAUGE, MetricDescriptor.GAUGE, MetricDescriptor.DOUBLE),
        (HISTOGRAM, MetricDescriptor.CUMULATIVE, MetricDescriptor.DISTRIBUTION),
    ):
        describe(client, type_, kind, value_type)
    return client


def describe(
    client: MetricServiceClient, type_: str, kind: Any, value_type: Any, label: str = "code"
) -> None:
    descriptor = MetricDescriptor(
        type=type_, metric_kind=kind, value_type=value_type, labels=[LabelDescriptor(key=label)]
    )
    client.create_metric_descriptor(
        CreateMetricDescriptorRequest(name="projects/shop", metric_descriptor=descriptor)
    )


def series(type_: str, end: int = NOW, start: int = START, value: float = 1) -> Any:
    """A valid time series."""
    made = TimeSeries.pb()(
        metric_kind=MetricDescriptor.GAUGE if type_ == GAUGE else MetricDescriptor.CUMULATIVE
    )
    made.metric.type = type_
    made.metric.labels["code"] = "OK"
    made.resource.type = "generic_task"
    made.resource.labels.update(
        project_id="shop", location="global", namespace="default", job="ranker", task_id="1"
    )
    point = made.points.add()
    point.interval.end_time.FromNanoseconds(end)
    if type_ != GAUGE:
        point.interval.start_time.FromNanoseconds(start)
    if type_ == COUNTER:
        made.value_type = MetricDescriptor.INT64
        point.value.int64_value = int(value)
    elif type_ == GAUGE:
        made.value_type = MetricDescriptor.DOUBLE
        point.value.double_value = value
    else:
        made.value_type = MetricDescriptor.DISTRIBUTION
        distribution = point.value.distribution_value
        distribution.count = int(value)
        distribution.mean = 1.5
        distribution.bucket_options.explicit_buckets.bounds.extend([1.0, 2.0])
        distribution.bucket_counts.extend([0, int(value), 0])
    return made


def write(client: MetricServiceClient, *made: Any, project: str = "shop") -> None:
    message = CreateTimeSeriesRequest.pb()(name=f"projects/{project}", time_series=made)
    client.create_time_series(CreateTimeSeriesRequest.wrap(message))


@pytest.mark.parametrize("type_", [COUNTER, GAUGE, HISTOGRAM])
def test_valid_points_are_written(
    client: MetricServiceClient, service: LocalMetricService, type_: str
):
    write(client, series(type_, NOW - 5 * 10**9))
    write(client, series(type_, NOW, value=2))
    [written] = service.series.values()
    assert len(written.points) == 2
    assert service.refused == []


def test_counter_may_start_again_after_its_last_point(client: MetricServiceClient):
    write(client, series(COUNTER, NOW - 20 * 10**9, value=9))
    write(client, series(COUNTER, NOW, start=NOW - 10 * 10**9, value=1))


def changed(type_: str, change: Callable[[Any], Any]) -> Any:
    made = series(type_)
    change(made)
    return made


def second_point(made: Any) -> None:
    made.points.add().CopyFrom(made.points[0])


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(series("custom.googleapis.com/test/x"), "no descriptor", id="no descriptor"),
        pytest.param(
            changed(COUNTER, lambda s: setattr(s, "metric_kind", MetricDescriptor.GAUGE)),
            "kind contradicts",
            id="kind",
        ),
        pytest.param(
            changed(COUNTER, lambda s: setattr(s, "value_type", MetricDescriptor.DOUBLE)),
            "value type contradicts",
            id="value type",
        ),
        pytest.param(
            changed(COUNTER, lambda s: setattr(s.points[0].value, "double_value", 1.0)),
            "value is not of",
            id="value",
        ),
        pytest.param(
            changed(COUNTER, lambda s: s.metric.labels.update(user="1")),
            "label is not in",
            id="foreign label",
        ),
        pytest.param(
            changed(COUNTER, lambda s: s.metric.labels.update(code="x" * 1025)),
            "label value is too long",
            id="long label",
        ),
        pytest.param(
            changed(COUNTER, lambda s: setattr(s.resource, "type", "toaster")),
            "no resource type",
            id="resource type",
        ),
        pytest.param(
            changed(COUNTER, lambda s: s.resource.labels.pop("job")),
            "resource labels are not",
            id="missing resource label",
        ),
        pytest.param(
            changed(COUNTER, lambda s: s.resource.labels.update(job="")),
            "resource label is empty",
            id="empty resource label",
        ),
        pytest.param(
            changed(COUNTER, lambda s: s.resource.labels.update(project_id="other")),
            "another project",
            id="other project",
        ),
        pytest.param(changed(COUNTER, second_point), "expected one point", id="two points"),
        pytest.param(
            series(COUNTER, NOW + 24 * 3600 * 10**9), "end time is in the future", id="future"
        ),
        pytest.param(
            series(COUNTER, NOW - 26 * 3600 * 10**9, NOW - 27 * 3600 * 10**9),
            "too long ago",
            id="past",
        ),
        pytest.param(series(COUNTER, start=NOW), "must not be empty", id="empty interval"),
        pytest.param(series(COUNTER, start=0), "must not be empty", id="no start"),
        pytest.param(
            changed(GAUGE, lambda s: s.points[0].interval.start_time.FromNanoseconds(START)),
            "must equal its end",
            id="gauge with a start",
        ),
        pytest.param(
            changed(HISTOGRAM, lambda s: setattr(s.points[0].value.distribution_value, "count", 2)),
            "not the sum",
            id="count",
        ),
        pytest.param(
            changed(
                HISTOGRAM,
                lambda s: s.points[
                    0
                ].value.distribution_value.bucket_options.explicit_buckets.bounds.append(2.0),
            ),
            "bounds must grow",
            id="bounds",
        ),
    ],
)
def test_bad_point_is_refused_and_the_others_are_written(
    client: MetricServiceClient, service: LocalMetricService, made: Any, reason: str
):
    other = GAUGE if made.metric.type != GAUGE else COUNTER
    with pytest.raises(InvalidArgument, match=reason) as caught:
        write(client, made, series(other))
    [detail] = caught.value.details
    summary = CreateTimeSeriesSummary.pb()()
    assert detail.Unpack(summary)
    assert (summary.total_point_count, summary.success_point_count) == (2, 1)
    assert [(e.status.code, e.point_count) for e in summary.errors] == [(3, 1)]
    assert [key[0] for key, written in service.series.items() if written.points] == [other]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        pytest.param(series(COUNTER), series(COUNTER), "in order", id="again"),
        pytest.param(series(GAUGE), series(GAUGE, NOW - 10 * 10**9), "in order", id="out of order"),
        pytest.param(
            series(GAUGE),
            series(GAUGE, NOW + 4_999_999_999),
            "more frequently",
            id="too frequent",
        ),
        pytest.param(
            series(COUNTER, NOW - 10 * 10**9),
            series(COUNTER, start=START + 1),
            "start time changed",
            id="start moved",
        ),
        pytest.param(
            series(COUNTER, NOW - 10 * 10**9),
            series(COUNTER, start=START - 1),
            "start time changed",
            id="start moved back",
        ),
        pytest.param(
            series(COUNTER, NOW - 10 * 10**9, value=5),
            series(COUNTER, value=4),
            "went backwards",
            id="counter went backwards",
        ),
        pytest.param(
            series(HISTOGRAM, NOW - 10 * 10**9, value=5),
            series(HISTOGRAM, value=4),
            "went backwards",
            id="histogram went backwards",
        ),
    ],
)
def test_bad_succession_is_refused(
    client: MetricServiceClient, first: Any, second: Any, reason: str
):
    write(client, first)
    with pytest.raises(InvalidArgument, match=reason):
        write(client, second)


def test_whole_call_is_refused(client: MetricServiceClient, service: LocalMetricService):
    with pytest.raises(InvalidArgument, match="Duplicate"):
        write(client, series(GAUGE), series(GAUGE, NOW - 10 * 10**9))
    with pytest.raises(InvalidArgument, match="expected 1 to 200, got 201"):
        write(
            client,
            *(
                changed(GAUGE, lambda s, i=i: s.metric.labels.update(code=str(i)))  # type: ignore[misc]
                for i in range(201)
            ),
        )
    with pytest.raises(GoogleAPICallError, match="name: projects/"):
        write(client, series(GAUGE), project="")
    assert service.series == {}


@pytest.mark.parametrize(
    ("type_", "kind", "value_type", "label", "reason"),
    [
        pytest.param("custom/x", 1, 2, "a", "type", id="type"),
        pytest.param(f"{GAUGE}2", MetricDescriptor.CUMULATIVE, 1, "a", "value type", id="bool"),
        pytest.param(f"{GAUGE}2", 1, 3, "no-dash", "label key", id="label key"),
        pytest.param(COUNTER, MetricDescriptor.GAUGE, 2, "code", "contradicts", id="kind"),
    ],
)
def test_bad_descriptor_is_refused(
    client: MetricServiceClient, type_: str, kind: int, value_type: int, label: str, reason: str
):
    with pytest.raises(InvalidArgument, match=reason):
        describe(client, type_, kind, value_type, label)


def test_descriptor_never_loses_a_label(client: MetricServiceClient, service: LocalMetricService):
    describe(client, GAUGE, MetricDescriptor.GAUGE, MetricDescriptor.DOUBLE, label="model")
    assert {label.key for label in service.descriptors[GAUGE].labels} == {"code", "model"}
