"""Sends traces to an OpenTelemetry collector; needs the extra `otel`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from ranker.distribution import NAME, MissingExtraError
from ranker.metrics.exporters import Option, Running, Value

if TYPE_CHECKING:
    from ranker.metrics.families import Source
    from ranker.metrics.office_recorder import OfficeRecorder


class OtlpExporter:
    """Sends spans by OTLP over HTTP; see `ranker.metrics.exporters.Exporter`."""

    options = (
        Option(
            "trace_endpoint",
            "",
            "URL of an OpenTelemetry collector to send traces to, by OTLP over HTTP: "
            "http://localhost:4318. Empty: none. The variables OTEL_* say the rest.",
        ),
        Option(
            "trace_rate",
            0.01,
            "The share of the requests without a trace context that begin a trace. Where the "
            "caller sends a context, its flag decides.",
            0,
            1,
        ),
    )

    def start(
        self,
        source: Source,  # noqa: ARG002  of metrics, which are not sent
        recorder: OfficeRecorder,
        settings: Mapping[str, Value],
    ) -> Running | None:
        """Starts to send, if there is a collector."""
        given = str(settings["trace_endpoint"])
        if not given:
            return None
        endpoint = address_of(given)
        try:
            from exporters.otlp.traces import Traces
        except ImportError as error:
            raise MissingExtraError(
                f"traces: {error.name} is not installed; run: pip install '{NAME}[otel]'"
            ) from error

        traces = Traces(endpoint, recorder)
        return Running(traced=traces.add, close=traces.close)


def address_of(endpoint: str) -> str:
    """Where spans are posted to: the endpoint, with OTLP's own path if it has none.

    Raises:
        ValueError: it is not a URL of HTTP.
    """
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(
            f"--trace-endpoint: expected a URL as http://localhost:4318, got "
            f"{without_secrets(endpoint)!r}"
        )
    return endpoint if url.path.strip("/") else urlunsplit(url._replace(path="/v1/traces"))


def without_secrets(text: str) -> str:
    """A text for the log: what URLs in it have beside scheme, host, port and path is left out.

    Names, passwords and tokens may stand before the host or in the query.
    """
    return re.sub(r"\?\S+", "?...", re.sub(r"[^\s/]*@", "", text))


exporter = OtlpExporter()
