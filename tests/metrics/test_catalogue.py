import re
from bisect import bisect_left
from itertools import pairwise

import grpc
import pytest

from ranker.errors import Code
from ranker.metrics import catalogue as catalog
from ranker.metrics.catalogue import METRICS
from ranker.metrics.metric import Kind, Metric

BASE_UNITS = {"seconds": "_seconds", "bytes": "_bytes"}


def test_names_are_unique():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_codes_are_grpcs_own():
    assert {code.value[0]: code.name for code in grpc.StatusCode} == {
        int(code): code.name for code in Code
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metric_keeps_the_conventions(metric: Metric):
    assert re.fullmatch("ranker_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.endswith("_info") == (metric.kind is Kind.INFO)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert bool(metric.texts) == (metric.kind is Kind.INFO)
    assert len(set(metric.labels)) == len(metric.labels)
    assert metric.help.endswith(".")
    assert "|" not in metric.help
    if suffix := BASE_UNITS.get(metric.unit):
        assert metric.name.removesuffix("_total").endswith(suffix)


def test_latency_buckets_span_50_microseconds_to_5_seconds():
    assert (catalog.LATENCY_SECONDS[0], catalog.LATENCY_SECONDS[-1]) == (50e-6, 5.0)


def test_latency_buckets_tell_2_from_2_and_a_half_milliseconds():
    bounds = catalog.LATENCY_SECONDS
    assert bisect_left(bounds, 0.0020) < bisect_left(bounds, 0.0021) <= bisect_left(bounds, 0.0025)
    steps = [high / low for low, high in pairwise(bounds)]
    assert max(steps) < 1.29
