"""Cloud Monitoring's MetricService, as much of it as exporting needs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.api.metric_pb2 import MetricDescriptor
from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, InvalidArgument
from google.cloud.monitoring_v3 import (
    CreateMetricDescriptorRequest,
    CreateTimeSeriesRequest,
    CreateTimeSeriesSummary,
    ListMetricDescriptorsRequest,
    MetricServiceClient,
)
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from exporters.gcp_monitoring.points import TYPE_PREFIX

logger = logging.getLogger(__name__)

MAX_SERIES = 200
"""The most time series that one call may write: https://cloud.google.com/monitoring/quotas"""


class MonitoringApi:
    """A connection to the API, for one project."""

    def __init__(self, project: str, emulator: str = "") -> None:
        """Connects, with the environment's credentials.

        Args:
            project: the project's id.
            emulator: the address of a stand-in, spoken to in plain text and
                without credentials; empty for the API itself.

        Raises:
            google.auth.exceptions.GoogleAuthError: there are no credentials.
        """
        self._name = f"projects/{project}"
        if emulator:
            transport = MetricServiceGrpcTransport(channel=grpc.insecure_channel(emulator))
            self._client = MetricServiceClient(transport=transport)
        else:
            self._client = MetricServiceClient()

    def create_descriptors(self, wanted: Iterable[MetricDescriptor], timeout: float) -> None:
        """Creates the descriptors that the project lacks, or has in another form.

        One that the API refuses is left out, with a line in the log.

        Raises:
            GoogleAPICallError: the API is away, or we may not.
        """
        request = ListMetricDescriptorsRequest(
            name=self._name, filter=f'metric.type = starts_with("{TYPE_PREFIX}")'
        )
        pages = self._client.list_metric_descriptors(request, retry=None, timeout=timeout)
        existing = {descriptor.type: descriptor for descriptor in pages}
        for descriptor in wanted:
            if _agree(existing.get(descriptor.type), descriptor):
                continue
            try:
                self._client.create_metric_descriptor(
                    CreateMetricDescriptorRequest(name=self._name, metric_descriptor=descriptor),
                    retry=None,
                    timeout=timeout,
                )
            except (InvalidArgument, AlreadyExists) as error:
                logger.error("descriptor of %s refused: %s", descriptor.type, error.message)

    def write(self, series: Sequence[Any], timeout: float) -> tuple[int, GoogleAPICallError | None]:
        """Writes up to `MAX_SERIES` time series.

        Returns:
            How many the API says it wrote, and its error if that is not all of
            them.

        Raises:
            GoogleAPICallError: the call failed as a whole. Some may have been
                written all the same.
        """
        message = CreateTimeSeriesRequest.pb()(name=self._name, time_series=series)
        try:
            self._client.create_time_series(
                CreateTimeSeriesRequest.wrap(message), retry=None, timeout=timeout
            )
        except GoogleAPICallError as error:
            summary = CreateTimeSeriesSummary.pb()()
            for detail in error.details:
                if hasattr(detail, "Unpack") and detail.Unpack(summary):
                    return summary.success_point_count, error
            raise
        return len(series), None

    def close(self) -> None:
        """Cuts the connection; a call under way fails."""
        self._client.transport.close()  # type: ignore[no-untyped-call]


def _agree(existing: MetricDescriptor | None, wanted: MetricDescriptor) -> bool:
    return (
        existing is not None
        and existing.metric_kind == wanted.metric_kind
        and existing.value_type == wanted.value_type
        # The API never takes labels away from a descriptor.
        and {label.key for label in existing.labels} >= {label.key for label in wanted.labels}
    )
