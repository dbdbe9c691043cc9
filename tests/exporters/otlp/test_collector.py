"""How a collector is reached: the variables, and what is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

pytest.importorskip("opentelemetry.sdk")

from exporters.otlp import address_of, collector
from exporters.otlp.collector import Collector
from exporters.otlp.spans import Spans
from tests.exporters.otlp.collector import LocalCollector
from tests.exporters.otlp.test_spans import SCORED

MESSAGE, COUNT = Spans().message([("0", SCORED)])


@pytest.fixture
def local() -> Iterator[LocalCollector]:
    local = LocalCollector()
    yield local
    local.close()


def post(local: LocalCollector) -> tuple[int | None, str]:
    return Collector(address_of(local.endpoint)).post(MESSAGE)


@pytest.mark.parametrize("compression", ["gzip", "none", ""])
@pytest.mark.parametrize("of", ["", "TRACES_"])
def test_variables_say_how_it_is_sent(local, monkeypatch, compression, of):
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{of}COMPRESSION", compression)
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{of}HEADERS", "api-key=a%20b,tenant=books")
    assert post(local) == (0, "")
    assert len(local.spans()) == COUNT
    assert local.headers["api-key"] == "a b"
    assert local.headers["tenant"] == "books"
    assert local.headers.get("Content-Encoding") == ("gzip" if compression == "gzip" else None)


def test_the_variable_for_traces_comes_first(local, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "tenant=all")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "tenant=traces")
    assert post(local) == (0, "")
    assert local.headers["tenant"] == "traces"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "expected a positive number, got 'soon'"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "expected a positive number, got '0'"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "expected one of none, gzip, deflate"),
    ],
    ids=["no-number", "nothing", "compression"],
)
def test_a_variable_that_can_not_be_is_named(monkeypatch, variable, value, expected):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable}: {expected}"):
        Collector("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("status", "posts"), [(503, 5), (429, 5), (400, 1), (500, 1)], ids=["503", "429", "400", "500"]
)
def test_what_is_put_off_is_sent_again(local, monkeypatch, status, posts):
    monkeypatch.setattr(collector, "_FIRST_WAIT_SECONDS", 0.001)
    local.status = status
    taken, reason = post(local)
    assert taken is None
    assert f"HTTP {status}" in reason
    assert local.requests == posts


def test_it_need_not_be_put_off_for_long(local, monkeypatch):
    monkeypatch.setattr(collector, "_LONGEST_WAIT_SECONDS", 0.01)
    local.status, local.retry_after = 503, 3600
    local.hold = lambda: setattr(local, "status", 200 if local.requests else 503)
    assert post(local) == (0, "")
    assert local.requests == 2


def test_a_certificate_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/does/not/exist.pem")
    taken, reason = Collector("https://127.0.0.1:1/v1/traces").post(MESSAGE)
    assert taken is None
    assert "/does/not/exist.pem" in reason


def test_what_a_collector_did_not_answer_is_not_sent_again(local, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    over = Event()
    local.hold = lambda: over.wait(30)
    taken, reason = post(local)
    over.set()
    assert taken is None
    assert "timed out" in reason
    assert local.requests <= 1
