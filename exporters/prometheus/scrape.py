"""What Prometheus scrapes: text or OpenMetrics, as the scraper asks.

Exemplars travel in OpenMetrics.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import accumulate

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

from ranker.metrics.exporters import Reply
from ranker.metrics.families import Distribution, Family, Sample, Source
from ranker.metrics.layout import UNKNOWN
from ranker.metrics.metric import Kind
from ranker.metrics.metric import Metric as RankerMetric


class Scrapes:
    """Answers scrapes.

    Args:
        source: what is scraped.
    """

    def __init__(self, source: Source) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_SourceCollector(source))

    def read(self, headers: Mapping[str, str]) -> Reply:
        """Every metric now, in the format and encoding that the headers ask for."""
        encode, content_type = choose_encoder(headers.get("accept", ""))
        if isinstance(encode, partial):
            # How to write names that need escaping: ours never do, and this way
            # prometheus-client doesn't go through them letter by letter.
            encode = partial(encode, escaping="allow-utf-8")
        body = encode(self._registry)
        about = {"Content-Type": content_type}
        if gzip_accepted(headers.get("accept-encoding", "")):
            # The fastest level: it finds nearly all of the repetition.
            body = gzip.compress(body, 1)
            about["Content-Encoding"] = "gzip"
        return Reply(body, about)


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
        # Most of a scrape would be the zeros of models that nobody calls, over all their
        # buckets. Counters say that they are zero.
        if sample.value.count == 0 and not _begins_at_zero(metric, sample):
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


def _begins_at_zero(metric: RankerMetric, sample: Sample) -> bool:
    """Whether a histogram is published although it has counted nothing: a served model's."""
    return metric.from_zero and sample.labels[:2] != (UNKNOWN, "")
