from __future__ import annotations

import pytest

from loadtests.slo import Slo


def test_parse_reads_latencies_and_errors():
    slo = Slo.parse("p50=800us, p99.9=10ms,p100=2s,errors=0.1%")
    assert slo.latencies == ((50.0, 800e-6), (99.9, 0.01), (100.0, 2.0))
    assert slo.errors == pytest.approx(0.001)
    assert slo.text == "p50=800us, p99.9=10ms,p100=2s,errors=0.1%"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("p99", id="no-limit"),
        pytest.param("p99=10", id="no-unit"),
        pytest.param("p101=10ms", id="percentile-above-100"),
        pytest.param("errors=1", id="errors-without-percent"),
        pytest.param("p99=10ms,,errors=1%", id="empty-term"),
        pytest.param("p99=-1ms", id="negative"),
    ],
)
def test_parse_names_the_bad_term(text):
    with pytest.raises(ValueError, match=r"expected|at most"):
        Slo.parse(text)


@pytest.mark.parametrize(
    ("requests", "failures", "seconds", "missed"),
    [
        pytest.param(1000, 1, 0.010, [], id="exactly-at-both-limits"),
        pytest.param(1000, 2, 0.010, ["errors"], id="one-error-too-many"),
        pytest.param(1000, 0, 0.0101, ["p99"], id="a-little-too-slow"),
        pytest.param(1000, 2, 0.5, ["errors", "p99"], id="both"),
        pytest.param(1000, 0, float("nan"), ["p99"], id="unknown-latency"),
        pytest.param(0, 0, 0.0, ["no requests were made"], id="no-requests"),
    ],
)
def test_misses(requests, failures, seconds, missed):
    lines = Slo.parse("p99=10ms,errors=0.1%").misses(requests, failures, lambda _: seconds)
    assert [line.split(":")[0] for line in lines] == missed
