"""A local `google.monitoring.v3.MetricService` that keeps the API's documented rules.

The rules are those of the reference of projects.timeSeries.create, of the
messages MetricDescriptor, TimeSeries, Point, TimeInterval and Distribution,
of the monitored-resource list, and of the page on quotas and limits. A call
writes the series that keep them and reports the others as the API does: the
error INVALID_ARGUMENT with a CreateTimeSeriesSummary among its details.

Run as a program, it says where it listens and serves until it is killed.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.api.metric_pb2 import MetricDescriptor
from google.cloud.monitoring_v3 import (
    CreateMetricDescriptorRequest,
    CreateTimeSeriesRequest,
    CreateTimeSeriesSummary,
    ListMetricDescriptorsRequest,
    ListMetricDescriptorsResponse,
)
from google.protobuf import any_pb2, empty_pb2
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

SERVICE = "google.monitoring.v3.MetricService"
MAX_SERIES, MAX_BUCKETS, MAX_LABELS, MAX_KEY, MAX_VALUE = 200, 200, 30, 100, 1024
FUTURE_SECONDS, PAST_SECONDS = 5 * 60, 25 * 3600
RESOURCE_LABELS = {
    "k8s_container": {
        "project_id",
        "location",
        "cluster_name",
        "namespace_name",
        "pod_name",
        "container_name",
    },
    "generic_task": {"project_id", "location", "namespace", "job", "task_id"},
}
Key = tuple[str, frozenset[tuple[str, str]], str, frozenset[tuple[str, str]]]


class RuleError(Exception):
    """A point breaks a rule."""


@dataclass
class Written:
    """A time series: its points, oldest first."""

    kind: int
    value_type: int
    points: list[Any] = field(default_factory=list)


class LocalMetricService:
    """The service, listening on a free port of the loopback.

    Args:
        spacing: seconds that points of one series must be apart; the API's are 5.

    Attributes:
        descriptors: by metric type.
        series: what was written.
        refused: why points were refused, in order.
        calls: the names of all methods called.
        faults: functions to call at the start of the next CreateTimeSeries, one
            per call, with its ServicerContext; they may abort or sleep.
        poisoned: metric types whose points are refused with INTERNAL.
        lost_answers: how many calls will do their work and then fail with UNAVAILABLE.
    """

    def __init__(self, spacing: float = 5.0) -> None:
        self.spacing = spacing
        self.descriptors: dict[str, MetricDescriptor] = {}
        self.series: dict[Key, Written] = {}
        self.refused: list[str] = []
        self.calls: list[str] = []
        self.faults: list[Callable[[grpc.ServicerContext], None]] = []
        self.poisoned: set[str] = set()
        self.lost_answers = 0
        self._lock = threading.Lock()
        self._port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listens, on the same port as before if there was one."""

        def method(name: str, request: Any) -> grpc.RpcMethodHandler:
            def handle(message: Any, context: grpc.ServicerContext) -> Any:
                self.calls.append(name)
                return getattr(self, f"_{name}")(message, context)

            return grpc.unary_unary_rpc_method_handler(
                handle,
                request_deserializer=request.pb().FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )

        self._server = grpc.server(
            futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)]
        )
        handlers = {
            "CreateTimeSeries": method("CreateTimeSeries", CreateTimeSeriesRequest),
            "CreateMetricDescriptor": method(
                "CreateMetricDescriptor", CreateMetricDescriptorRequest
            ),
            "ListMetricDescriptors": method("ListMetricDescriptors", ListMetricDescriptorsRequest),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def stop(self) -> None:
        """Cuts all connections."""
        self._server.stop(None).wait(10)

    def latest(self, metric_type: str, **labels: str) -> Any:
        """The value of the newest point of the one series with these metric labels."""
        [found] = [
            written.points[-1].value
            for (type_, metric_labels, _, _), written in self.series.items()
            if type_ == metric_type and metric_labels == frozenset(labels.items())
        ]
        return getattr(found, found.WhichOneof("value"))

    def _ListMetricDescriptors(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        _project(request.name, context)
        prefix = re.fullmatch(r'metric\.type = starts_with\("(.*)"\)', request.filter)
        if prefix is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"filter: {request.filter}")
            raise AssertionError
        with self._lock:
            found = [d for t, d in self.descriptors.items() if t.startswith(prefix[1])]
        return ListMetricDescriptorsResponse.pb()(metric_descriptors=found)

    def _CreateMetricDescriptor(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        _project(request.name, context)
        new = request.metric_descriptor
        with self._lock:
            old = self.descriptors.get(new.type)
            try:
                _check_descriptor(new, old)
            except RuleError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            if old is not None:
                keys = {label.key for label in new.labels}
                new.labels.extend(label for label in old.labels if label.key not in keys)
            self.descriptors[new.type] = new
        return new

    def _CreateTimeSeries(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        project = _project(request.name, context)
        with self._lock:
            fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            fault(context)
        total = len(request.time_series)
        if not 0 < total <= MAX_SERIES:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"time_series: expected 1 to {MAX_SERIES}, got {total}",
            )
        keys = [_key(series) for series in request.time_series]
        if len(set(keys)) < total:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Duplicate TimeSeries encountered")
        errors: dict[tuple[int, str], int] = {}
        with self._lock:
            for key, series in zip(keys, request.time_series, strict=True):
                try:
                    self._write(key, series, project)
                except RuleError as error:
                    reason = (code_pb2.INVALID_ARGUMENT, f"{series.metric.type}: {error}")
                    self.refused.append(reason[1])
                    errors[reason] = errors.get(reason, 0) + 1
                else:
                    if series.metric.type in self.poisoned:
                        reason = (code_pb2.INTERNAL, "Internal error encountered")
                        errors[reason] = errors.get(reason, 0) + 1
                        self.series[key].points.pop()
        if self.lost_answers > 0:
            self.lost_answers -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "injected, after the work was done")
        if errors:
            context.abort_with_status(_summary(total, errors))
        return empty_pb2.Empty()

    def _write(self, key: Key, series: Any, project: str) -> None:
        descriptor = self.descriptors.get(series.metric.type)
        if descriptor is None:
            raise RuleError("has no descriptor")  # the API would make one up
        _check_series(series, descriptor, project)
        written = self.series.setdefault(key, Written(series.metric_kind, series.value_type))
        [point] = series.points
        _check_point(point, descriptor)
        if written.points:
            _check_succession(written.points[-1], point, descriptor, self.spacing)
        written.points.append(point)


def fail(code: grpc.StatusCode) -> Callable[[grpc.ServicerContext], None]:
    """A fault: the call ends with this status, and nothing is written."""
    return lambda context: context.abort(code, "injected")


def hang(released: threading.Event) -> Callable[[grpc.ServicerContext], None]:
    """A fault: nothing happens until the event is set, and then nothing is written."""

    def wait(context: grpc.ServicerContext) -> None:
        released.wait(60)
        context.abort(grpc.StatusCode.ABORTED, "injected")

    return wait


def _project(name: str, context: grpc.ServicerContext) -> str:
    match = re.fullmatch("projects/([a-z][a-z0-9-]*)", name)
    if match is None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"name: {name}")
        raise AssertionError
    return match[1]


def _key(series: Any) -> Key:
    return (
        series.metric.type,
        frozenset(series.metric.labels.items()),
        series.resource.type,
        frozenset(series.resource.labels.items()),
    )


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise RuleError(rule)


def _check_descriptor(new: MetricDescriptor, old: MetricDescriptor | None) -> None:
    _check(
        re.fullmatch(r"(custom|workload)\.googleapis\.com(/[A-Za-z0-9_.-]+)+", new.type) is not None
        and len(new.type) <= 200,
        "type is not valid",
    )
    _check(new.metric_kind in (MetricDescriptor.GAUGE, MetricDescriptor.CUMULATIVE), "kind")
    numeric = (MetricDescriptor.INT64, MetricDescriptor.DOUBLE, MetricDescriptor.DISTRIBUTION)
    allowed = (
        (*numeric, MetricDescriptor.BOOL) if new.metric_kind == MetricDescriptor.GAUGE else numeric
    )
    _check(new.value_type in allowed, "value type does not go with the kind")
    _check(len(new.labels) <= MAX_LABELS, "too many labels")
    for label in new.labels:
        _check(
            re.fullmatch("[A-Za-z][A-Za-z0-9_]*", label.key) is not None
            and len(label.key) <= MAX_KEY,
            f"label key {label.key} is not valid",
        )
    if old is not None:
        _check(
            (new.metric_kind, new.value_type) == (old.metric_kind, old.value_type),
            "kind or value type contradicts the existing descriptor",
        )


def _check_series(series: Any, descriptor: MetricDescriptor, project: str) -> None:
    _check(series.metric_kind == descriptor.metric_kind, "kind contradicts the descriptor")
    _check(series.value_type == descriptor.value_type, "value type contradicts the descriptor")
    keys = {label.key for label in descriptor.labels}
    _check(set(series.metric.labels) <= keys, "label is not in the descriptor")
    for value in series.metric.labels.values():
        _check(len(value) <= MAX_VALUE, "label value is too long")
    expected = RESOURCE_LABELS.get(series.resource.type)
    _check(expected is not None, f"no resource type {series.resource.type}")
    _check(set(series.resource.labels) == expected, "resource labels are not the type's")
    _check(all(series.resource.labels.values()), "resource label is empty")
    _check(series.resource.labels["project_id"] == project, "resource is of another project")
    _check(len(series.points) == 1, "expected one point")


def _check_point(point: Any, descriptor: MetricDescriptor) -> None:
    start, end = _interval(point)
    now = time.time_ns()
    _check(end <= now + FUTURE_SECONDS * 10**9, "end time is in the future")
    _check(end >= now - PAST_SECONDS * 10**9, "end time is too long ago")
    if descriptor.metric_kind == MetricDescriptor.GAUGE:
        _check(start in (0, end), "a gauge's start time must equal its end time")
    else:
        _check(0 < start < end, "a cumulative interval must not be empty")
    field_of = {
        MetricDescriptor.INT64: "int64_value",
        MetricDescriptor.DOUBLE: "double_value",
        MetricDescriptor.DISTRIBUTION: "distribution_value",
    }
    _check(
        point.value.WhichOneof("value") == field_of[descriptor.value_type],
        "value is not of the descriptor's type",
    )
    if descriptor.value_type == MetricDescriptor.DISTRIBUTION:
        _check_distribution(point.value.distribution_value)


def _check_distribution(value: Any) -> None:
    bounds = list(value.bucket_options.explicit_buckets.bounds)
    _check(bool(bounds), "distribution has no bounds")
    _check(bounds == sorted(set(bounds)), "bounds must grow")
    _check(len(bounds) + 1 <= MAX_BUCKETS, "too many buckets")
    _check(len(value.bucket_counts) <= len(bounds) + 1, "more counts than buckets")
    _check(all(count >= 0 for count in value.bucket_counts), "negative count")
    _check(sum(value.bucket_counts) == value.count, "count is not the sum of the buckets")
    _check(value.count > 0 or value.mean == 0, "mean of nothing")


def _check_succession(old: Any, new: Any, descriptor: MetricDescriptor, spacing: float) -> None:
    old_start, old_end = _interval(old)
    start, end = _interval(new)
    _check(end > old_end, "Points must be written in order")
    _check(end - old_end >= spacing * 1e9, "written more frequently than the sampling period")
    if descriptor.metric_kind != MetricDescriptor.CUMULATIVE:
        return
    if start != old_start:
        _check(start >= old_end + 1_000_000, "start time changed within the time of older points")
        return
    if descriptor.value_type == MetricDescriptor.DISTRIBUTION:
        before, after = old.value.distribution_value, new.value.distribution_value
        _check(
            before.bucket_options == after.bucket_options
            and all(a >= b for a, b in zip(after.bucket_counts, before.bucket_counts, strict=True)),
            "a cumulative distribution went backwards",
        )
    else:
        name = old.value.WhichOneof("value")
        _check(
            getattr(new.value, name) >= getattr(old.value, name),
            "a cumulative value went backwards",
        )


def _interval(point: Any) -> tuple[int, int]:
    """Start and end in nanoseconds; a start that is absent is 0."""
    return point.interval.start_time.ToNanoseconds(), point.interval.end_time.ToNanoseconds()


def _summary(total: int, errors: dict[tuple[int, str], int]) -> grpc.Status:
    summary = CreateTimeSeriesSummary.pb()(
        total_point_count=total, success_point_count=total - sum(errors.values())
    )
    for (code, message), count in errors.items():
        summary.errors.add(status=status_pb2.Status(code=code, message=message), point_count=count)
    detail = any_pb2.Any()
    detail.Pack(summary)
    code, message = next(iter(errors))
    return rpc_status.to_status(
        status_pb2.Status(
            code=code,
            message=f"One or more TimeSeries could not be written: {message}",
            details=[detail],
        )
    )


if __name__ == "__main__":
    print(f"listening on {LocalMetricService().address}", flush=True)
    threading.Event().wait()
