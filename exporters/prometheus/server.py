"""Publishes metrics to Prometheus: an HTTP server that answers scrapes.

Text and OpenMetrics, as the scraper asks; exemplars travel in OpenMetrics.
"""

from __future__ import annotations

import errno
import gzip
import logging
import socket
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import accumulate
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, ClassVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from ranker.metrics.exporters import Value
from ranker.metrics.families import Distribution, Family, Source
from ranker.metrics.metric import Kind

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


logger = logging.getLogger(__name__)


class PrometheusServer:
    """Answers scrapes at `/metrics` from a thread of its own.

    Attributes:
        host: where it listens.
        port: likewise; the one that the system chose if 0 was asked for.
    """

    def __init__(self, source: Source, port: int, host: str = "0.0.0.0") -> None:
        """Binds and starts to answer.

        Raises:
            OSError: the address can't be listened on; says which, and why.
        """
        registry = CollectorRegistry()
        registry.register(_SourceCollector(source))
        server_class = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(
                host, port, partial(_answer, registry), server_class, _RequestHandler
            )
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                reason = "the port is taken; choose another metrics port, or 0 for any"
            raise OSError(error.errno, f"can't serve metrics on {host}:{port}: {reason}") from error
        self.host = host
        self.port: int = self._server.server_port
        logger.info("metrics on port %d", self.port)
        self._thread = Thread(
            target=self._server.serve_forever, name="prometheus-server", daemon=True
        )
        self._thread.start()

    @property
    def bound(self) -> Mapping[str, Value]:
        """The port that it has."""
        return {"metrics_port": self.port}

    def close(self) -> None:
        """Stops listening. A scrape that is being answered may still finish."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(
    registry: CollectorRegistry, environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    """The WSGI application: prometheus-client's own, with two short cuts."""
    if environ["PATH_INFO"] != "/metrics":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"metrics are at /metrics\n"]
    if environ["REQUEST_METHOD"] != "GET":
        start_response("405 Method Not Allowed", [("Allow", "GET")])
        return []
    encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
    if isinstance(encode, partial):
        # How to write names that need escaping: ours never do, and this way
        # prometheus-client doesn't go through them letter by letter.
        encode = partial(encode, escaping="allow-utf-8")
    body = encode(registry)
    headers = [("Content-Type", content_type)]
    if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
        # The fastest level: it finds nearly all of the repetition.
        body = gzip.compress(body, 1)
        headers.append(("Content-Encoding", "gzip"))
    start_response("200 OK", headers)
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    # A scrape must not keep the process alive, nor wait for another scrape.
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _RequestHandler(WSGIRequestHandler):
    # A client that connects and then says nothing gives its thread back.
    timeout: ClassVar[float] = 10.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing: a scrape is not news."""


class _SourceCollector(Collector):
    """A `families.Source` in prometheus-client's terms."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Every metric now."""
        return map(_convert, self._source.snapshot())


def _convert(family: Family) -> Metric:
    metric = family.metric
    base = metric.name.removesuffix("_total").removesuffix("_info")
    unit = metric.unit if base.endswith(f"_{metric.unit}") else ""
    if metric.kind is Kind.HISTOGRAM:
        return _convert_histogram(family, base, unit)
    if metric.kind is Kind.INFO:
        infos = InfoMetricFamily(base, metric.help)
        for sample in family.samples:
            infos.add_metric((), dict(zip(metric.labels, sample.labels, strict=True)))
        return infos
    family_class = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    numbers = family_class(base, metric.help, labels=metric.labels, unit=unit)
    for sample in family.samples:
        assert not isinstance(sample.value, Distribution)
        numbers.add_metric(sample.labels, sample.value)
    return numbers


def _convert_histogram(family: Family, name: str, unit: str) -> Metric:
    metric = family.metric
    bounds = [*map(str, metric.buckets), "+Inf"]
    histograms = HistogramMetricFamily(name, metric.help, labels=metric.labels, unit=unit)
    for sample in family.samples:
        assert isinstance(sample.value, Distribution)
        # Most of a scrape would be the zeros of methods and models that nobody
        # calls, over all their buckets. Counters say that they are zero.
        if sample.value.count == 0:
            continue
        exemplars = sample.value.exemplars or (None,) * len(bounds)
        counts = accumulate(sample.value.counts)
        buckets = [
            (bound, count, Exemplar({"trace_id": e.trace_id}, e.value, e.time))
            if e
            else (bound, count)
            for bound, count, e in zip(bounds, counts, exemplars, strict=True)
        ]
        histograms.add_metric(sample.labels, buckets, sample.value.sum)
    return histograms
