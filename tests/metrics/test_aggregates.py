import math
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.callers import MOST_CALLERS
from ranker.metrics import catalogue as catalog
from ranker.metrics import unit_sample
from ranker.metrics.aggregates import TEXT_BYTES, Aggregates, Layout
from ranker.metrics.caller_tokens import OVERFLOW_CELLS
from ranker.metrics.families import Distribution
from ranker.metrics.snapshot import snapshot
from tests.metrics.support import RANK, Worker, new_aggregates, nonzero, value


def run_worker(aggregates: Aggregates, worker: int, code: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a new process that records as that worker."""
    prelude = (
        "import os, signal\n"
        "from ranker.metrics.aggregates import Aggregates\n"
        "from tests.metrics.support import Worker\n"
        f"recorder = Worker(Aggregates.attach({aggregates.fd}), {worker})\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + code],
        pass_fds=[aggregates.fd],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"workers": 0}, "workers: expected at least 1", id="no worker"),
        pytest.param({"methods": ("/a/b", "/a/b")}, "methods: each may appear once", id="methods"),
    ],
)
def test_layout_refuses(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Layout(**({"models": 1, "methods": ()} | arguments))  # type: ignore[arg-type]


def test_cells_do_not_overlap(aggregates: Aggregates):
    plan = aggregates.layout.plan
    taken: set[int] = {0, 1}  # the pid and the beat
    for metric in catalog.METRICS:
        if metric.derived:
            continue
        size = len(metric.buckets) + 2 if metric.buckets else metric.copies
        begins = [(begin, size) for begin in plan.cells[metric]]
        if metric.exemplars:
            size = 4 * (len(metric.buckets) + 1)
            begins += [(begin, size) for begin in plan.exemplars[metric]]
        for begin, length in begins:
            cells = set(range(begin, begin + length))
            assert not cells & taken
            taken |= cells
    others = [(begin, unit_sample.SIZE) for begin in plan.units]
    others += [(begin, 2 * OVERFLOW_CELLS) for begin in plan.overflows]
    for begin, length in others:
        cells = set(range(begin, begin + length))
        assert not cells & taken
        taken |= cells
    assert taken == set(range(len(taken)))
    assert len(taken) < len(aggregates.slots[0].cells)


def test_new_buffer_is_empty(aggregates: Aggregates):
    assert nonzero(snapshot(aggregates)) == {}


def test_snapshot_has_every_recorded_metric_once(aggregates: Aggregates):
    families = snapshot(aggregates)
    assert [f.metric for f in families] == [m for m in catalog.METRICS if not m.derived]
    for family in families:
        labels = [sample.labels for sample in family.samples]
        assert len(set(labels)) == len(labels)
        assert all(len(values) == len(family.metric.labels) for values in labels)


def test_slots_add_up():
    aggregates = new_aggregates(workers=2)
    recorders = [Worker(aggregates, worker) for worker in range(2)]
    for worker, recorder in enumerate(recorders):
        recorder.close()
        recorder.rpc_started()
        recorder.queue_changed(10 + worker)
        recorder.request_finished(0, 0, 100, 0.05, 0.001 * (worker + 1))
        recorder.model_loaded(0, 3.0 - worker, {"engine": "simd"})
        recorder.batch_scored(0, 100, 1, [0.0], 0.25 * (worker + 1))
    families = snapshot(aggregates)
    assert value(families, catalog.WORKERS) == 2
    assert value(families, catalog.RPCS_IN_FLIGHT) == 2
    assert value(families, catalog.QUEUE_ROWS) == 21
    assert value(families, catalog.REQUESTS, "books", "1", "OK") == 2
    assert value(families, catalog.MODEL_LOAD_DURATION, "books", "1") == 3.0
    assert value(families, catalog.ENGINE_BUSY, "0") == 0.25
    assert value(families, catalog.ENGINE_BUSY, "1") == 0.5
    durations = value(families, catalog.REQUEST_DURATION, "books", "1", "ok")
    assert isinstance(durations, Distribution)
    assert durations.count == 2
    assert durations.sum == pytest.approx(0.003)


def test_workers_that_agree_are_one_info_and_others_are_two():
    aggregates = new_aggregates(workers=2)
    for worker in range(2):
        aggregates.slots[worker].write_info(catalog.TRANSPORT_INFO, 0, {"transport": "core"})
        aggregates.slots[worker].write_info(catalog.SIMD_INFO, 0, {"level": f"avx{worker}"})
    found = nonzero(snapshot(aggregates))
    assert found == {
        "ranker_transport_info": {("core", ""): 1},
        "ranker_simd_info": {("avx0", ""): 1, ("avx1", ""): 1},
    }


@given(text=st.text())
def test_info_text_is_kept_or_cut_at_a_character(text: str):
    aggregates = new_aggregates()
    aggregates.slots[0].write_info(catalog.TRANSPORT_INFO, 0, {"transport": "x", "reason": text})
    [(transport, reason)] = nonzero(snapshot(aggregates))["ranker_transport_info"]
    assert transport == "x"
    whole = text.encode("utf-8", "replace").decode().rstrip("\0")
    if len(whole.encode()) <= TEXT_BYTES:
        assert reason == whole
    else:
        assert whole.startswith(reason)
        assert len(reason.encode()) > TEXT_BYTES - 4


def test_long_text_is_cut(aggregates: Aggregates):
    aggregates.slots[0].write_info(
        catalog.TRANSPORT_INFO, 0, {"transport": "core", "reason": "é" * 99}
    )
    [(_, reason)] = nonzero(snapshot(aggregates))["ranker_transport_info"]
    assert reason == "é" * (TEXT_BYTES // 2)


def test_unknown_info_text_is_refused(aggregates: Aggregates):
    with pytest.raises(ValueError, match=r"ranker_transport_info.*'reader'"):
        aggregates.slots[0].write_info(catalog.TRANSPORT_INFO, 0, {"reader": "x"})


@pytest.mark.parametrize(
    "content", [pytest.param(b"", id="empty"), pytest.param(b"not metrics\0", id="other")]
)
def test_attach_refuses_another_file(content: bytes):
    fd = os.memfd_create("other")
    try:
        os.write(fd, content)
        with pytest.raises(ValueError, match=r"empty|Expecting"):
            Aggregates.attach(fd)
    finally:
        os.close(fd)


def test_worker_process_records_in_its_slot():
    aggregates = new_aggregates(workers=2)
    done = run_worker(
        aggregates,
        1,
        f"recorder.rpc_started(); recorder.rpc_finished({RANK!r}, 0); print(os.getpid())",
    )
    assert done.returncode == 0, done.stderr
    assert [slot.pid for slot in aggregates.slots] == [0, int(done.stdout), 0, 0]
    method = RANK.removeprefix("/")
    assert value(snapshot(aggregates), catalog.RPCS, method, "OK") == 1


def test_killed_worker_loses_no_count_and_its_successor_goes_on():
    aggregates = new_aggregates(workers=2)
    work = (
        "recorder.rpc_started(); recorder.rpc_started(); recorder.queue_changed(7)\n"
        f"recorder.rpc_finished({RANK!r}, 0)\n"
        "recorder.simd_found('avx2', '')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for lives in (1, 2, 3):
        assert run_worker(aggregates, 0, work).returncode == -signal.SIGKILL
        families = snapshot(aggregates)
        assert value(families, catalog.RPCS, RANK.removeprefix("/"), "OK") == lives
        # Its gauges stand as it left them, until someone clears them.
        assert value(families, catalog.RPCS_IN_FLIGHT) == 1
        assert value(families, catalog.QUEUE_ROWS) == 7
    aggregates.slots[0].vacate()
    found = nonzero(snapshot(aggregates))
    assert [slot.pid for slot in aggregates.slots] == [0, 0, 0, 0]
    assert found["ranker_rpcs_total"] == {(RANK.removeprefix("/"), "OK"): 3}
    gone = {"ranker_workers", "ranker_rpcs_in_flight", "ranker_queue_rows", "ranker_simd_info"}
    assert not gone & found.keys()


def test_callers_keep_their_numbers_until_others_need_them(aggregates: Aggregates):
    recorder = Worker(aggregates).recorder
    names = [f"dns:a{number}" for number in range(MOST_CALLERS)]
    aggregates.name_callers(names[:-1])
    recorder.caller("dns:a5").ended[0] += 3.0
    recorder.caller("dns:a0").candidates.add(5.0)
    recorder.caller("dns:a0").candidates.note(10.0, 7.0)
    aggregates.name_callers([])  # none may call any more
    aggregates.name_callers(["dns:a5", "dns:b"])
    assert aggregates.callers() == (*names[:-1], "dns:b")
    assert recorder.caller("dns:a5").ended[0] == 3.0
    aggregates.name_callers(["dns:c"])  # there is no room: one that may not call makes it
    assert aggregates.callers() == ("dns:c", *names[1:-1], "dns:b")
    assert recorder.caller("dns:c").ended[0] == 0.0
    assert recorder.caller("dns:c").candidates.read(10.0) == (0.0, -math.inf)


def test_other_callers_are_published_where_some_are_named(aggregates: Aggregates):
    metric, recorder = catalog.CALLER_REQUESTS, Worker(aggregates).recorder
    recorder.other_callers().ended[7] += 1.0
    recorder.nameless_caller().ended[16] += 2.0
    assert labels(aggregates, metric) == set()
    aggregates.name_callers(["dns:a"])
    assert {caller for caller, _ in labels(aggregates, metric)} == {"dns:a", "other", "none"}
    counted = {("other", "PERMISSION_DENIED"): 1.0, ("none", "UNAUTHENTICATED"): 2.0}
    assert nonzero(snapshot(aggregates))[metric.name] == counted


def labels(aggregates: Aggregates, metric) -> set[tuple[str, ...]]:
    [family] = [family for family in snapshot(aggregates) if family.metric is metric]
    return {sample.labels for sample in family.samples}
