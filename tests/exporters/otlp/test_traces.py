"""Spans on their way to a collector, and what becomes of them if it is away, hangs or refuses."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from threading import Event

import pytest

pytest.importorskip("opentelemetry.sdk")

from exporters.otlp import address_of, exporter, traces
from exporters.otlp import collector as collectors
from exporters.otlp.spans import Spans
from exporters.otlp.traces import Traces
from ranker.distribution import MissingExtraError
from ranker.metrics import catalogue
from ranker.metrics.office_recorder import OfficeRecorder
from ranker.metrics.reader import Reader
from ranker.metrics.snapshot import snapshot
from tests.exporters.otlp.collector import LocalCollector
from tests.exporters.otlp.test_spans import SCORED
from tests.metrics.support import new_aggregates, value
from tests.waiting import PATIENCE, wait_until

REFUSED = SCORED._replace(batch=None)
"""A request that is one span."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(PATIENCE))
    monkeypatch.setattr(traces, "_CLOSING_SECONDS", PATIENCE)
    monkeypatch.setattr(collectors, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(traces, "MOST_WAITING", 1024)


@pytest.fixture
def collector() -> Iterator[LocalCollector]:
    collector = LocalCollector()
    yield collector
    collector.close()


class Office:
    """Whoever sends spans, and counts them."""

    def __init__(self, endpoint: str) -> None:
        self.aggregates = new_aggregates()
        self.traces = Traces(address_of(endpoint), OfficeRecorder(self.aggregates))

    def counted(self) -> tuple[float, float, float]:
        """Exported, failed, dropped."""
        now = snapshot(self.aggregates)
        outcomes = catalogue.EXPORT_OUTCOME.values
        return tuple(value(now, catalogue.TRACE_SPANS, outcome) for (outcome,) in outcomes)


def test_spans_arrive_with_who_sent_them(collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "books-ranker")
    office = Office(collector.endpoint)
    office.traces.add("0", [SCORED, REFUSED])
    office.traces.close()
    assert office.counted() == (5, 0, 0)
    spans = collector.spans()
    assert len(spans) == 5
    assert {span.resource["service.name"] for span in spans} == {"books-ranker"}


@pytest.mark.parametrize("trouble", ["away", "refuses"])
def test_a_collector_that_takes_nothing_is_one_line_of_the_log(collector, caplog, trouble):
    collector.status = 400
    office = Office(collector.endpoint if trouble == "refuses" else "http://127.0.0.1:1")
    with caplog.at_level(logging.INFO):
        for count in (1, 2):
            office.traces.add("0", [REFUSED])
            wait_until(lambda count=count: office.counted()[1] == count)
        [line] = caplog.messages
        assert line.startswith("sending traces failed: ")
        if trouble == "refuses":
            assert "400" in line
            collector.status = 200
            office.traces.add("0", [REFUSED])
            wait_until(lambda: office.counted()[0] == 1)
            office.traces.close()
            assert caplog.messages[1:] == ["sending traces works again"]


def test_what_has_no_room_to_wait_is_dropped_and_counted(collector):
    goes_on = Event()
    collector.hold = lambda: goes_on.wait(PATIENCE)
    office = Office(collector.endpoint)
    office.traces.add("0", [REFUSED] * (traces.MOST_WAITING + 7))
    assert office.counted()[2] == 7
    goes_on.set()
    wait_until(lambda: sum(office.counted()) == traces.MOST_WAITING + 7)
    office.traces.add("0", [REFUSED])  # there is room again
    office.traces.close()
    assert sum(office.counted()) == traces.MOST_WAITING + 8


def test_many_need_not_wait_for_the_next_time(collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    office = Office(collector.endpoint)
    office.traces.add("0", [REFUSED] * traces.MOST_AT_ONCE)
    wait_until(lambda: office.counted()[0] == traces.MOST_AT_ONCE)
    office.traces.close()


def test_what_a_collector_takes_in_part_is_counted_so(collector, caplog):
    collector.rejects = 2
    office = Office(collector.endpoint)
    office.traces.add("0", [SCORED])
    office.traces.close()
    assert office.counted() == (2, 2, 0)
    assert caplog.messages == ["sending traces failed: too many"]


@pytest.mark.parametrize(
    ("rejects", "counted"), [(10, (0, 4, 0)), (-10, (4, 0, 0))], ids=["too-many", "negative"]
)
def test_no_more_spans_are_counted_than_were_sent(collector, rejects, counted):
    collector.rejects = rejects
    office = Office(collector.endpoint)
    office.traces.add("0", [SCORED])
    office.traces.close()
    assert office.counted() == counted


def test_a_bug_costs_the_spans_that_it_meets_and_no_others(collector, monkeypatch):
    office = Office(collector.endpoint)
    with monkeypatch.context() as broken:
        broken.setattr(Spans, "add", lambda *_: 1 / 0)
        office.traces.add("0", [SCORED])
        wait_until(lambda: office.counted() == (0, 3, 0))
    office.traces.add("0", [SCORED])
    office.traces.close()
    assert office.counted() == (4, 3, 0)


def test_the_end_does_not_wait_for_a_collector_that_hangs(collector, monkeypatch, caplog):
    monkeypatch.setattr(traces, "_CLOSING_SECONDS", 0.1)
    goes_on = Event()
    collector.hold = lambda: goes_on.wait(PATIENCE)
    office = Office(collector.endpoint)
    office.traces.add("0", [REFUSED])
    office.traces.close()
    assert caplog.messages[-1] == "ending with 1 spans of traces not sent"
    assert office.counted() == (0, 0, 1)
    goes_on.set()


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://collector/", "https://collector/v1/traces"),
        ("https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
        ("https://collector?key=1/2", "https://collector/v1/traces?key=1/2"),
        ("https://collector/?key=1", "https://collector/v1/traces?key=1"),
    ],
    ids=["base", "slash", "whole", "query", "slash-query"],
)
def test_an_endpoint_without_a_path_gets_otlps(given, address):
    assert address_of(given) == address


def with_secrets(endpoint: str) -> str:
    return endpoint.replace("//", "//user:s3cr3t@") + "?token=t0k3n%3D"


def is_without_secrets(text: str) -> bool:
    return not any(secret in text for secret in ("user", "s3cr3t", "t0k3n"))


def test_the_log_has_no_secrets_of_the_endpoint(collector, caplog):
    caplog.set_level(logging.INFO)
    office = Office(with_secrets(f"{collector.endpoint}/v1/traces"))
    collector.close()
    office.traces.add("0", [REFUSED])
    wait_until(lambda: office.counted() == (0, 1, 0))
    office.traces.close()
    [begun, failed] = caplog.messages
    assert begun == f"traces to {collector.endpoint}/v1/traces?..."
    assert "url: /v1/traces?... " in failed
    assert is_without_secrets(caplog.text)


def test_a_refused_endpoint_is_shown_without_secrets():
    with pytest.raises(ValueError, match="expected a URL") as caught:
        address_of(with_secrets("grpc://collector:4317"))
    assert "grpc://collector:4317" in str(caught.value)
    assert is_without_secrets(str(caught.value))


@pytest.mark.parametrize("given", ["localhost:4318", "collector", "grpc://collector:4317"])
def test_what_is_no_url_of_http_is_refused(given):
    with pytest.raises(ValueError, match=f"--trace-endpoint: expected a URL .*, got '{given}'"):
        address_of(given)


def start(endpoint: str) -> object:
    aggregates = new_aggregates()
    settings = {"trace_endpoint": endpoint, "trace_rate": 0.01}
    return exporter.start(Reader(aggregates), OfficeRecorder(aggregates), settings)


def test_without_an_endpoint_there_are_no_traces():
    assert start("") is None


def test_without_the_extra_the_command_that_helps_is_named(monkeypatch):
    for name in [*sys.modules]:
        if name.startswith(("opentelemetry.sdk", "exporters.otlp.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(MissingExtraError, match=r"run: pip install 'tree-ranker\[otel\]'"):
        start("http://127.0.0.1:1")
