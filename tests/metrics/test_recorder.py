import gc
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import Code
from ranker.metrics import access_log
from ranker.metrics import catalogue as catalog
from ranker.metrics.access_log import ERRORS_PER_SECOND, AccessLog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.families import Distribution
from ranker.metrics.metric import Kind
from ranker.metrics.office_recorder import OfficeRecorder
from ranker.metrics.ranking_log_recorder import RankingLogRecorder
from ranker.metrics.snapshot import snapshot
from ranker.metrics.supervisor_recorder import NamedModel, SupervisorRecorder
from tests.metrics.support import RANK, Ended, Worker, new_aggregates, nonzero, value

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
METHOD = RANK.removeprefix("/")
# What a recorder says of its process alone, whatever it records.
OF_THE_PROCESS = {"ranker_workers", "ranker_gc_collections_total", "ranker_gc_pause_seconds_total"}


def recorded(aggregates: Aggregates) -> dict[str, dict[tuple[str, ...], float]]:
    found = nonzero(snapshot(aggregates))
    return {name: values for name, values in found.items() if name not in OF_THE_PROCESS}


def test_rpc_in_flight_until_it_finishes(aggregates: Aggregates, recorder: Worker):
    recorder.rpc_started()
    recorder.rpc_started()
    assert recorded(aggregates) == {"ranker_rpcs_in_flight": {(): 2}}
    recorder.rpc_finished(RANK, 0)
    recorder.rpc_finished(RANK, 14)
    assert recorded(aggregates) == {
        "ranker_rpcs_total": {(METHOD, "OK"): 1, (METHOD, "UNAVAILABLE"): 1},
    }


def test_a_method_that_the_server_lacks_is_unknown(aggregates: Aggregates, recorder: Worker):
    recorder.rpc_started()
    recorder.rpc_finished("", 12)
    assert recorded(aggregates) == {
        "ranker_rpcs_total": {("unknown", "UNIMPLEMENTED"): 1},
    }


@pytest.mark.parametrize("code", range(17), ids=[code.name for code in Code])
@pytest.mark.parametrize(
    ("model", "labels"),
    [
        pytest.param(0, ("books", "1"), id="first"),
        pytest.param(1, ("films", "2024-05"), id="second"),
        pytest.param(-1, ("unknown", ""), id="unknown"),
    ],
)
def test_request(
    aggregates: Aggregates, recorder: Worker, model: int, labels: tuple[str, str], code: int
):
    recorder.request_finished(model, code, 100, 0.05, 0.001)
    outcome = "error" if code else "ok"
    assert recorded(aggregates) == {
        "ranker_requests_total": {(*labels, Code(code).name): 1},
        "ranker_request_duration_seconds": {(*labels, outcome): 1},
        "ranker_request_candidates": {labels: 1},
        "ranker_request_deadline_slack_seconds": {labels: 1},
    }
    sizes = value(snapshot(aggregates), catalog.REQUEST_CANDIDATES, *labels)
    assert isinstance(sizes, Distribution)
    assert sizes.sum == 100


def test_wrong_code_is_an_error_and_leaves_the_recorder_usable(recorder: Worker):
    with pytest.raises(IndexError):
        recorder.request_finished(0, 17, 1, 0.05, 0.001)
    recorder.request_finished(0, 0, 1, 0.05, 0.001)


@pytest.mark.parametrize(
    ("slack", "bucket"),
    [
        pytest.param(-1.0, 0, id="passed"),
        pytest.param(0.0, 0, id="now"),
        pytest.param(0.05, 6, id="on a bound"),
        pytest.param(60.0, len(catalog.SLACK_SECONDS), id="above all bounds"),
    ],
)
def test_slack(aggregates: Aggregates, recorder: Worker, slack: float, bucket: int):
    recorder.request_finished(1, 0, 1, slack, 0.001)
    found = value(snapshot(aggregates), catalog.DEADLINE_SLACK, "films", "2024-05")
    assert isinstance(found, Distribution)
    assert [i for i, count in enumerate(found.counts) if count] == [bucket]
    assert found.sum == max(slack, 0.0)


def test_no_deadline_is_counted_apart(aggregates: Aggregates, recorder: Worker):
    recorder.request_finished(0, 0, 1, math.inf, 0.001)
    found = recorded(aggregates)
    assert found["ranker_requests_without_deadline_total"] == {("books", "1"): 1}
    assert "ranker_request_deadline_slack_seconds" not in found


def test_a_split_is_counted_by_model(aggregates: Aggregates, recorder: Worker):
    recorder.model(1).request_split("")
    recorder.model(1).request_split("reader-1")
    assert recorded(aggregates) == {"ranker_split_requests_total": {("films", "2024-05"): 2}}


def test_labels_are_those_of_the_last_switch(aggregates: Aggregates):
    supervisor = SupervisorRecorder(aggregates)
    many = [f"label-{i}" for i in range(catalog.MOST_LABELS + 1)]
    supervisor.switched(1, {0: NamedModel(many)})
    supervisor.switched(2, {0: NamedModel(["previous"]), 1: NamedModel(["stable", "canary"])})
    assert recorded(aggregates)["ranker_model_label_info"] == {
        ("books", "1", "previous"): 1,
        ("films", "2024-05", "stable"): 1,
        ("films", "2024-05", "canary"): 1,
    }
    supervisor.switched(3, {0: NamedModel(many)})
    labels = recorded(aggregates)["ranker_model_label_info"]
    assert labels.keys() == {("books", "1", label) for label in many[:-1]}


def test_unknown_number_of_candidates_is_not_zero(aggregates: Aggregates, recorder: Worker):
    recorder.request_finished(0, 3, 0, 0.05, 0.001)
    assert "ranker_request_candidates" not in recorded(aggregates)


def test_every_reason(aggregates: Aggregates, recorder: Worker):
    for (reason,) in catalog.SHED_REASON.values:
        recorder.model(0).request_shed(reason)
    for (reason,) in catalog.EXPIRED_REASON.values:
        recorder.model(-1).request_expired(reason)
    assert recorded(aggregates) == {
        "ranker_requests_shed_total": {
            ("books", "1", reason): 1 for (reason,) in catalog.SHED_REASON.values
        },
        "ranker_requests_expired_total": {
            ("unknown", "", reason): 1 for (reason,) in catalog.EXPIRED_REASON.values
        },
    }


def test_batch(aggregates: Aggregates, recorder: Worker):
    recorder.batch_scored(0, 300, 4, [0.001, 0.002, 0.0041], 0.01)
    assert recorded(aggregates) == {
        "ranker_queue_duration_seconds": {("books", "1"): 3},
        "ranker_scoring_duration_seconds": {("books", "1"): 1},
        "ranker_candidates_scored_total": {("books", "1"): 300},
        "ranker_batch_rows": {("books", "1"): 1},
        "ranker_batch_requests": {("books", "1"): 1},
        "ranker_engine_busy_seconds_total": {("0",): 0.01},
    }
    families = snapshot(aggregates)
    for metric, total in (
        (catalog.QUEUE_DURATION, 0.0071),
        (catalog.SCORING_DURATION, 0.01),
        (catalog.BATCH_ROWS, 300),
        (catalog.BATCH_REQUESTS, 4),
    ):
        found = value(families, metric, "books", "1")
        assert isinstance(found, Distribution)
        assert found.sum == pytest.approx(total)


def test_queue_gauge(aggregates: Aggregates, recorder: Worker):
    recorder.queue_changed(70)
    recorder.queue_changed(30)
    assert recorded(aggregates) == {"ranker_queue_rows": {(): 30}}


def test_models_and_infos(aggregates: Aggregates, recorder: Worker):
    info = {"engine": "simd", "reason": "AVX-512 found", "trees": "500"}
    recorder.model_loaded(0, 0.5, info)
    recorder.model(1).load_failed()
    recorder.transport_chosen("core", "grpcio 1.85 has it")
    recorder.simd_found("avx512", "")
    SupervisorRecorder(aggregates).build({"version": "0.1.0", "python": "3.11.2"})
    assert recorded(aggregates) == {
        "ranker_model_loads_total": {("books", "1", "ok"): 1, ("films", "2024-05", "error"): 1},
        "ranker_model_load_duration_seconds": {("books", "1"): 0.5},
        "ranker_model_info": {("books", "1", "simd", "AVX-512 found", "500", "", "", "", ""): 1},
        "ranker_transport_info": {("core", "grpcio 1.85 has it"): 1},
        "ranker_simd_info": {("avx512", ""): 1},
        "ranker_build_info": {("0.1.0", "3.11.2", "", ""): 1},
    }


@given(
    seconds=st.lists(
        st.one_of(
            st.floats(0, 10),
            st.sampled_from(catalog.LATENCY_SECONDS),
            st.just(math.nextafter(5, 6)),
        )
    )
)
def test_buckets_are_those_of_the_definition(seconds: list[float]):
    aggregates = new_aggregates()
    recorder = Worker(aggregates)
    recorder.close()
    for value_ in seconds:
        recorder.request_finished(0, 0, 1, 0.05, value_)
    found = value(snapshot(aggregates), catalog.REQUEST_DURATION, "books", "1", "ok")
    assert isinstance(found, Distribution)
    bounds = (*catalog.LATENCY_SECONDS, math.inf)
    cumulative = [sum(found.counts[: i + 1]) for i in range(len(bounds))]
    assert cumulative == [sum(v <= bound for v in seconds) for bound in bounds]
    assert found.count == len(seconds)
    assert found.sum == pytest.approx(sum(seconds))


def exemplars(
    aggregates: Aggregates, model: str = "books", version: str = "1"
) -> dict[int, tuple[str, float]]:
    found = value(snapshot(aggregates), catalog.REQUEST_DURATION, model, version, "ok")
    assert isinstance(found, Distribution)
    return {
        bucket: (exemplar.trace_id, exemplar.value)
        for bucket, exemplar in enumerate(found.exemplars)
        if exemplar is not None
    }


def test_sampled_trace_becomes_its_buckets_exemplar(aggregates: Aggregates, recorder: Worker):
    recorder.request_finished(0, 0, 1, 0.05, 0.0018, f"00-{TRACE}-00f067aa0ba902b7-01")
    recorder.request_finished(0, 0, 1, 0.05, 0.5, f"00-{TRACE[::-1]}-00f067aa0ba902b7-01")
    bounds = catalog.LATENCY_SECONDS
    assert exemplars(aggregates) == {
        bounds.index(0.002): (TRACE, 0.0018),
        bounds.index(0.5): (TRACE[::-1], 0.5),
    }


def test_a_version_that_gets_anothers_number_has_none_of_its_exemplars(
    aggregates: Aggregates, recorder: Worker
):
    for model in (0, 1):
        recorder.request_finished(model, 0, 1, 0.05, 0.0018, f"00-{TRACE}-00f067aa0ba902b7-01")
    aggregates.clear_model(0)
    aggregates.name_model(0, ("books", "1"))
    recorder.request_finished(0, 0, 1, 0.05, 0.0018)
    assert exemplars(aggregates) == {}
    assert exemplars(aggregates, "films", "2024-05") != {}


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(f"00-{TRACE}-00f067aa0ba902b7-00", id="not sampled"),
        pytest.param("nonsense", id="invalid"),
        pytest.param("é" * 55, id="not ASCII"),
    ],
)
def test_other_headers_leave_no_exemplar(aggregates: Aggregates, recorder: Worker, header: str):
    recorder.request_finished(0, 0, 1, 0.05, 0.001, header)
    assert exemplars(aggregates) == {}


def test_exemplar_stands_for_a_second(
    aggregates: Aggregates, recorder: Worker, monkeypatch: pytest.MonkeyPatch
):
    now = 1000.0
    monkeypatch.setattr("ranker.metrics.recorder.time.time", lambda: now)
    for now, trace, stands in ((1000.0, "a", "a"), (1000.9, "b", "a"), (1001.0, "c", "c")):  # noqa: B007
        recorder.request_finished(0, 0, 1, 0.05, 0.001, f"00-{trace * 32}-00f067aa0ba902b7-01")
        assert list(exemplars(aggregates).values()) == [(stands * 32, 0.001)]


def test_garbage_collections_are_counted_until_close(aggregates: Aggregates, recorder: Worker):
    before = value(snapshot(aggregates), catalog.GC_COLLECTIONS, "0", "2")
    gc.collect()
    gc.collect()
    families = snapshot(aggregates)
    assert value(families, catalog.GC_COLLECTIONS, "0", "2") == before + 2
    assert value(families, catalog.GC_PAUSE, "0") > 0
    recorder.close()
    gc.collect()
    assert value(snapshot(aggregates), catalog.GC_COLLECTIONS, "0", "2") == before + 2
    gc.callbacks.append(recorder.recorder._collected)  # for the fixture's own close


def test_supervisor_and_office_count_in_slots_of_their_own(aggregates: Aggregates):
    SupervisorRecorder(aggregates).worker_restarted()
    office = OfficeRecorder(aggregates)
    office.points("gcp_monitoring", "exported", 200)
    office.points("gcp_monitoring", "dropped", 3)
    for status in (200, 404, 404, 418):
        office.responded(status)
    aggregates.slots[0].vacate()
    assert recorded(aggregates) == {
        "ranker_worker_restarts_total": {(): 1},
        "ranker_export_points_total": {
            ("gcp_monitoring", "exported"): 200,
            ("gcp_monitoring", "dropped"): 3,
        },
        "ranker_http_responses_total": {("200",): 1, ("404",): 2, ("other",): 1},
    }


def test_recorder_can_reach_every_recorded_metric(aggregates: Aggregates, recorder: Worker):
    """A metric in the catalogue that nothing records would be a promise not kept."""
    recorder.rpc_started()
    recorder.rpc_started()
    recorder.rpc_finished(RANK, 0)
    recorder.request_finished(0, 0, 10, 0.05, 0.001)
    recorder.request_finished(0, 0, 10, math.inf, 0.001)
    recorder.model(0).request_shed("deadline")
    recorder.model(0).request_expired("deadline")
    recorder.batch_scored(0, 10, 1, [0.001], 0.001)
    recorder.queue_changed(1)
    recorder.waited[0] += 1.0
    recorder.loop_worked(1.0)
    recorder.engine_worked(1.0)
    recorder.model_loaded(0, 1.0, {})
    recorder.transport_chosen("core", "")
    recorder.simd_found("avx2", "")
    recorder.gpu_used("0000:1B:00.0")
    recorder.serving(True)
    recorder.rpc_evicted("calls")
    recorder.connection_closed("headers")
    recorder.memory_limited(1)
    gc.collect()
    supervisor = SupervisorRecorder(aggregates)
    supervisor.worker_restarted()
    supervisor.build({})
    supervisor.switched(2, {0: NamedModel(["stable"])})
    supervisor.rolled_back(0)
    office = OfficeRecorder(aggregates)
    office.points("gcp_monitoring", "failed", 1)
    office.spans("failed", 1)
    office.responded(200)
    workers_end, offices_end = access_log.connect()
    log = AccessLog(workers_end.detach(), "errors", 0.0, aggregates, 0)
    for _ in range(ERRORS_PER_SECOND + 1):
        log.request_ended(14, Ended(10, 0.0, 0.05, 0.001), ("books", "1"))
    offices_end.close()
    recorder.model(0).request_split("")
    aggregates.name_shadow(0, "2")
    shadow = recorder.model(0).shadow("2")
    shadow.dropped("busy")
    shadow.compared(overlap=1.0, tau=0.5, shift=0.1)
    recorder.shadow_worked(1.0)
    recorder.model(0).candidates_explained(3)
    recorder.model(0).list_explained(0.001)
    recorder.explanations_changed(3)
    rankings = RankingLogRecorder(aggregates, 0)
    rankings.written(1, 100)
    rankings.dropped("disk", 1)
    rankings.files("finished", 1)
    aggregates.name_callers(["dns:a"])
    recorder.recorder.caller("dns:a").ended[0] += 1.0
    recorder.recorder.caller("dns:a").requests.add(1.0)
    recorder.recorder.caller("dns:a").candidates.add(3.0)
    aggregates.slots[0].vacate(cpu_seconds=1.5)
    recorder = Worker(aggregates)  # the next one
    recorder.rpc_started()
    recorder.queue_changed(1)
    recorder.explanations_changed(3)
    recorder.model_loaded(0, 1.0, {})
    recorder.transport_chosen("core", "")
    recorder.simd_found("avx2", "")
    recorder.gpu_used("0000:1B:00.0")
    recorder.serving(True)
    recorder.memory_limited(1)
    stored = {metric.name for metric in catalog.METRICS if not metric.derived}
    assert nonzero(snapshot(aggregates)).keys() == stored
    assert {m.kind for m in catalog.METRICS} == set(Kind)
