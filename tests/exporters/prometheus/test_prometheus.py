import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from exporters.prometheus.scrape import Scrapes
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.catalogue import METRICS
from ranker.metrics.metric import Kind
from ranker.metrics.office_recorder import OfficeRecorder
from ranker.metrics.reader import Reader
from ranker.metrics.supervisor_recorder import SupervisorRecorder
from tests.metrics.support import NAMES, RANK, Worker, new_aggregates

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NASTY = 'back\\slash "quote" new\nline é'


@pytest.fixture
def aggregates() -> Aggregates:
    return new_aggregates((*NAMES, (NASTY, "1")), workers=2)


@pytest.fixture
def recorder(aggregates: Aggregates) -> Iterator[Worker]:
    recorder = Worker(aggregates)
    yield recorder
    recorder.close()


@pytest.fixture
def scrapes(aggregates: Aggregates) -> Iterator[Scrapes]:
    reader = Reader(aggregates)
    yield Scrapes(reader)
    reader.close()


def get(scrapes: Scrapes, **headers: str) -> tuple[str, str]:
    """A scrape: its content type and its text."""
    reply = scrapes.read({name.lower(): value for name, value in headers.items()})
    packed = reply.headers.get("Content-Encoding") == "gzip"
    body = gzip.decompress(reply.body) if packed else reply.body
    return reply.headers["Content-Type"], body.decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = [s for family in parse_text(text) for s in family.samples]
    by_name = {(s.name, frozenset(s.labels.items())): s.value for s in found}
    assert len(by_name) == len(found), "a series appears twice"
    return by_name


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def record_everything(recorder: Worker, aggregates: Aggregates) -> None:
    recorder.rpc_started()
    recorder.rpc_finished(RANK, 0)
    for model in range(-1, 3):
        recorder.batch_scored(model, 10, 2, [0.001, 0.002], 0.001)
        recorder.model_loaded(model, 1.0, {"engine": "simd", "reason": NASTY})
        recorder.request_finished(model, 0, 10, 0.05, 0.0018, f"00-{TRACE}-00f067aa0ba902b7-01")
        recorder.request_finished(model, 3, 10, 0.05, 0.5)
    recorder.transport_chosen("core", NASTY)
    recorder.simd_found("avx512", "")
    SupervisorRecorder(aggregates).build({"version": "0.1.0"})
    OfficeRecorder(aggregates).points("gcp_monitoring", "exported", 1)


def test_text(scrapes: Scrapes, aggregates: Aggregates, recorder: Worker):
    record_everything(recorder, aggregates)
    content_type, text = get(scrapes)
    assert content_type.startswith("text/plain; version=")
    found = samples(text)
    assert found[key("ranker_rpcs_total", method=RANK[1:], code="OK")] == 1
    assert found[key("ranker_rpcs_total", method=RANK[1:], code="INTERNAL")] == 0
    assert found[key("ranker_requests_total", model=NASTY, version="1", code="OK")] == 1
    assert found[key("ranker_workers")] == 1
    labels = {"model": "books", "version": "1", "outcome": "ok"}
    name = "ranker_request_duration_seconds"
    assert found[key(f"{name}_bucket", **labels, le="0.0016")] == 0
    assert found[key(f"{name}_bucket", **labels, le="0.002")] == 1
    assert found[key(f"{name}_bucket", **labels, le="+Inf")] == 1
    assert found[key(f"{name}_count", **labels)] == 1
    assert found[key(f"{name}_sum", **labels)] == 0.0018


def test_the_histogram_of_the_objective_begins_when_the_counter_does(
    scrapes: Scrapes, aggregates: Aggregates
):
    found = samples(get(scrapes)[1])
    for model, version in aggregates.names():
        labels = {"model": model, "version": version}
        assert found[key("ranker_requests_total", **labels, code="OK")] == 0
        bucket = key("ranker_request_duration_seconds_bucket", **labels, outcome="ok", le="0.02")
        assert found[bucket] == 0


def test_every_metric_is_there_with_its_kind_and_help(
    scrapes: Scrapes, aggregates: Aggregates, recorder: Worker
):
    record_everything(recorder, aggregates)
    _, text = get(scrapes)
    families = {family.name: family for family in parse_text(text)}
    for metric in METRICS:
        family = families.pop(metric.name.removesuffix("_total"))
        assert family.type == ("gauge" if metric.kind is Kind.INFO else metric.kind.value)
        assert family.documentation == metric.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
    assert families == {}


def test_openmetrics_with_exemplars(scrapes: Scrapes, aggregates: Aggregates, recorder: Worker):
    record_everything(recorder, aggregates)
    content_type, text = get(scrapes, Accept=OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_openmetrics(text)}
    assert families["ranker_request_duration_seconds"].unit == "seconds"
    assert families["ranker_build"].type == "info"
    exemplars = [
        (s.labels["model"], s.labels["outcome"], s.labels["le"], s.exemplar.labels)
        for s in families["ranker_request_duration_seconds"].samples
        if s.exemplar
    ]
    models = ("books", "films", NASTY, "unknown")
    assert exemplars == [(model, "ok", "0.002", {"trace_id": TRACE}) for model in models]


def test_openmetrics_and_text_agree(scrapes: Scrapes, aggregates: Aggregates, recorder: Worker):
    record_everything(recorder, aggregates)
    names = {metric.name for metric in METRICS if "process" not in metric.name}

    def stable(sample: Sample) -> bool:
        known = sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        return known in names and "gc_" not in known and "utilization" not in known

    text = [s for f in parse_text(get(scrapes)[1]) for s in f.samples if stable(s)]
    openmetrics = [
        s
        for f in parse_openmetrics(get(scrapes, Accept=OPENMETRICS)[1])
        for s in f.samples
        if stable(s)
    ]
    assert len(text) > 500
    assert [s[:3] for s in text] == [s[:3] for s in openmetrics]


@pytest.mark.parametrize(
    "accept",
    [
        pytest.param(f"{OPENMETRICS};escaping=underscores", id="underscores"),
        pytest.param(f"{OPENMETRICS};escaping=allow-utf-8", id="utf-8"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5",
            id="prometheus 2",
        ),
    ],
)
def test_escaping_makes_no_difference(
    scrapes: Scrapes, aggregates: Aggregates, recorder: Worker, accept: str
):
    record_everything(recorder, aggregates)
    content_type, text = get(scrapes, Accept=accept)
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name for family in parse_openmetrics(text)}
    base = {metric.name.removesuffix("_total").removesuffix("_info") for metric in METRICS}
    assert families == base


def test_gzip(scrapes: Scrapes):
    assert scrapes.read({"accept-encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
    assert "ranker_rpcs_total" in get(scrapes, **{"Accept-Encoding": "gzip"})[1]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say(scrapes: Scrapes, aggregates: Aggregates, recorder: Worker):
    record_everything(recorder, aggregates)
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=get(scrapes)[1],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
