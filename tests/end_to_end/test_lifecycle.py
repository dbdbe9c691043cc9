"""Servers come and go."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker.client import RankerClient
from ranker.errors import RankerError, UnavailableError
from ranker.export import export_onnx
from tests.end_to_end.broken_server import LARGE, LOST, STUCK
from tests.end_to_end.conftest import RunningServer


def wait_until(condition, seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_draining_finishes_what_is_in_flight(start, truth):
    server = start("--max-batch-delay", "1.0")  # so that there is something in flight
    rows = truth.rows[:20]
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(client.rank(rows, timeout=30.0).indices.tolist())
        except RankerError as error:
            answers.append(error)

    with RankerClient(server.address) as client, grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.metric("ranker_queue_rows") == 100)
        server.signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for thread in threads:
            thread.join()
        expected = np.argsort(-truth.scores(rows), kind="stable").tolist()
        assert answers == [expected] * 5
    assert server.process.wait(60) == 0


def test_a_draining_server_takes_no_new_requests(start, truth):
    server = start()
    with RankerClient(server.address) as client:
        client.rank(truth.rows[:3])
        assert server.stop() == 0
        with pytest.raises(UnavailableError):
            client.rank(truth.rows[:3])


def test_a_second_signal_does_not_wait(start, truth):
    server = start("--max-batch-delay", "600")
    refusals: list[RankerError] = []

    def ask() -> None:
        try:
            client.rank(truth.rows[:3], timeout=60.0)
        except RankerError as error:
            refusals.append(error)

    with RankerClient(server.address) as client:
        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: server.metric("ranker_queue_rows") == 3)
        server.signal()
        server.wait_for_log("draining")
        server.signal()
        server.process.wait(30)
        thread.join()
    assert len(refusals) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(b"not a model" * 50, "", id="not-onnx"),
        pytest.param(None, "No such file|not found|does not exist", id="missing"),
    ],
)
def test_a_bad_model_file_is_one_clear_line(tmp_path, content, words):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    for workers in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "ranker", "serve", str(path), "--port", "0"]
            + ["--metrics-port", "-1", "--workers", workers],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode not in (0, -9)
        last = done.stderr.strip().splitlines()[-1]
        assert "broken.onnx" in last
        assert re.search(words, last, re.IGNORECASE)
        assert "Traceback" not in done.stderr


def test_a_taken_port_is_one_clear_line(truth):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "ranker", "serve", str(truth.path), "--host", "127.0.0.1"]
            + ["--port", str(port), "--metrics-port", "-1"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert str(port) in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def worker_pids(log: str) -> dict[int, int]:
    started = re.findall(r"worker (\d+) started, pid (\d+)", log)
    return {int(index): int(pid) for index, pid in started}


def test_workers_share_the_port_and_a_dead_one_is_replaced(start, truth):
    server = start("--workers", "2")
    rows = truth.rows[:30]
    expected = np.argsort(-truth.scores(rows), kind="stable")

    def rank_over_many_connections() -> None:
        for _ in range(20):
            with RankerClient(server.address, timeout=10.0) as client:
                np.testing.assert_array_equal(client.rank(rows).indices, expected)

    rank_over_many_connections()
    assert server.metric("ranker_requests_total", code="OK") == 20
    before = worker_pids(server.log.read_text())
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: worker_pids(server.log.read_text())[0] != before[0])
    wait_until(lambda: server.metric("ranker_workers") == 2)
    rank_over_many_connections()
    assert server.metric("ranker_requests_total", code="OK") == 40
    assert server.metric("ranker_worker_restarts_total") == 1
    assert server.stop() == 0
    for pid in worker_pids(server.log.read_text()).values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("fate", ["gone", "replaced"])
def test_a_worker_that_replaces_another_serves_the_same_model(truth, tmp_path, fate):
    """Whatever has become of the file: all answers are of one model, under its own name."""
    model = tmp_path / "books.onnx"
    shutil.copy(truth.path, model)
    server = RunningServer(tmp_path / "server.log", str(model), "--workers", "2")
    rows = truth.rows[:30]
    expected = truth.scores(rows)
    try:
        model.unlink()
        if fate == "replaced":
            export_onnx(truth.booster, model, name="books", version="9", iteration_range=(0, 5))
        os.kill(worker_pids(server.log.read_text())[0], signal.SIGKILL)
        server.wait_for_log("(?s)(worker 0 serves.*){2}")
        for _ in range(16):
            with RankerClient(server.address, timeout=10.0) as client:
                ranking = client.rank(rows)
                assert ranking.version == "7"
                np.testing.assert_array_equal(ranking.scores, expected[ranking.indices])
        assert {"books", "7"} == set(
            re.findall(r'ranker_model_info\{.*?model="(.*?)".*?version="(.*?)"', server.metrics())[
                0
            ]
        )
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()


def write_model_that_only_loads(path: Path) -> None:
    """Scores the three rows that onnxruntime is tried with at load, and no other number."""
    floats = onnx.TensorProto.FLOAT
    three = onnx.helper.make_tensor("three", onnx.TensorProto.INT64, [2], [3, 12])
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Reshape", ["rows", "three"], ["matrix"]),
            onnx.helper.make_node("ReduceMax", ["matrix"], ["scores"], axes=[1], keepdims=0),
        ],
        "graph",
        [onnx.helper.make_tensor_value_info("rows", floats, ["n", 12])],
        [onnx.helper.make_tensor_value_info("scores", floats, ["n"])],
        [three],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_that_cannot_score_is_an_error_at_the_start(tmp_path, transport, workers):
    path = tmp_path / "books.onnx"
    write_model_that_only_loads(path)
    done = subprocess.run(
        [sys.executable, "-m", "ranker", "serve", str(path), "--port", "0", "--metrics-port", "-1"]
        + ["--workers", workers, "--transport", transport, "--log-format", "text"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert re.search(r"books@1: engine onnx can't score: .*Reshape", done.stderr, re.DOTALL)


class Broken(RunningServer):
    program = ("-m", "tests.end_to_end.broken_server")


def test_a_worker_that_cannot_start_is_tried_again_until_it_can(
    start, truth, tmp_path, monkeypatch
):
    broken = tmp_path / "broken"
    monkeypatch.setenv("BROKEN_START", str(broken))
    server = start("--workers", "2", kind=Broken)
    broken.touch()
    os.kill(worker_pids(server.log.read_text())[0], signal.SIGKILL)
    server.wait_for_log("worker 0 can't do its work: books@7: it is broken today")
    server.wait_for_log("worker 0 ended with exit code 1")
    assert server.metric("ranker_model_loads_total", outcome="error") >= 1
    with RankerClient(server.address, timeout=10.0) as client:
        expected = np.argsort(-truth.scores(truth.rows[:30]), kind="stable")
        np.testing.assert_array_equal(client.rank(truth.rows[:30]).indices, expected)
    broken.unlink()
    server.wait_for_log("(?s)(worker 0 serves.*){2}")
    assert server.stop() == 0


def asking(client, rows) -> tuple[threading.Thread, list[RankerError]]:
    """A thread that has rows ranked, and why it did not get them."""
    refusals: list[RankerError] = []

    def ask() -> None:
        try:
            client.rank(rows, timeout=8.0)
        except RankerError as error:
            refusals.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, refusals


def test_a_worker_whose_engine_is_lost_drains_and_is_replaced(start, truth):
    server = start(kind=Broken)
    rows = truth.rows[:3].copy()
    with RankerClient(server.address) as client, grpc.insecure_channel(server.address) as channel:
        client.rank(rows)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        lost = rows.copy()
        lost[0, 0] = LOST
        with pytest.raises(UnavailableError):
            client.rank(lost, timeout=0.5)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.wait_for_log("an engine is lost: draining")
        server.wait_for_log("worker 0 ended with exit code 3")
        server.wait_for_log("(?s)(worker 0 serves.*){2}")
        client.wait_ready(30)
        expected = np.argsort(-truth.scores(rows), kind="stable")
        np.testing.assert_array_equal(client.rank(rows, timeout=10.0).indices, expected)
    assert server.stop() == 0


def test_an_engine_that_is_lost_after_sigterm_does_not_ask_for_another_process(start, truth):
    server = start("--max-batch-delay", "2.0", kind=Broken)  # in which the signal comes
    rows = truth.rows[:3].copy()
    rows[0, 0] = LOST
    with RankerClient(server.address) as client:
        thread, refusals = asking(client, rows)
        wait_until(lambda: server.metric("ranker_queue_rows") == 3)
        server.signal(signal.SIGTERM)
        thread.join()
        assert server.process.wait(30) == 0
    assert [type(error) for error in refusals] == [UnavailableError]
    server.wait_for_log("(?s)SIGTERM: draining.*a GPU that fell off the bus.*drained")


def test_a_server_whose_engine_is_stuck_ends_all_the_same(start, truth):
    server = start("--drain-timeout", "1", kind=Broken)
    rows = truth.rows[:LARGE].copy()
    rows[0, 0] = STUCK
    with RankerClient(server.address) as client:
        thread, refusals = asking(client, rows)
        server.wait_for_log("the engine is stuck")
        server.signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        thread.join()
    assert [type(error) for error in refusals] == [UnavailableError]
    server.wait_for_log("ending with requests unanswered")


class Scarce(RunningServer):
    """A server whose system has no process to spare, now and then."""

    program = ("-m", "tests.end_to_end.scarce_server")


def test_a_worker_that_cannot_be_started_anew_is_tried_again(start, truth, monkeypatch):
    monkeypatch.setenv("SCARCE", "4,5")  # the third process is the office
    server = start("--workers", "2", "--log-format", "text", kind=Scarce)
    os.kill(worker_pids(server.log.read_text())[0], signal.SIGKILL)
    server.wait_for_log("worker 0 ended with SIGKILL .* starts in 0.5 s")
    server.wait_for_log("worker 0 can't be started: .* unavailable; the next attempt is in 1.0 s")
    with RankerClient(server.address, timeout=10.0) as client:
        expected = np.argsort(-truth.scores(truth.rows[:30]), kind="stable")
        np.testing.assert_array_equal(client.rank(truth.rows[:30]).indices, expected)
    server.wait_for_log("worker 0 can't be started: .* unavailable; the next attempt is in 2.0 s")
    server.wait_for_log("(?s)(worker 0 serves.*){2}")
    assert server.metric("ranker_workers") == 2
    assert server.metric("ranker_worker_restarts_total") == 1
    assert server.stop() == 0


def test_a_worker_that_cannot_be_started_at_all_is_one_clear_line(truth):
    done = subprocess.run(
        [sys.executable, *Scarce.program, "serve", str(truth.path), "--host", "127.0.0.1"]
        + ["--port", "0", "--metrics-port", "-1", "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SCARCE": "2"},
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "worker 1 can't be started: Resource temporarily unavailable" in last
    assert "all workers have ended" in done.stderr
    assert "Traceback" not in done.stderr


class Unasked(RunningServer):
    """A server that listens, and has been asked nothing yet."""

    def wait_ready(self) -> None:
        pass


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_meets_a_cold_worker(start, workers):
    server = start("--workers", workers, kind=Unasked)
    for _ in range(20):
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.address, own) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_workers_end_when_their_supervisor_is_killed(start):
    server = start("--workers", "2")
    pids = worker_pids(server.log.read_text()).values()
    server.signal(signal.SIGKILL)
    server.process.wait()

    def gone() -> bool:
        return not any(os.path.exists(f"/proc/{pid}") for pid in pids)

    wait_until(gone)


def office_pid(log: str) -> int:
    return int(re.findall(r"office started, pid (\d+)", log)[-1])


def test_killing_the_office_disturbs_no_request_and_loses_no_count(start, truth):
    server = start()
    rows = truth.rows[:30]
    with RankerClient(server.address) as client:
        for _ in range(10):
            client.rank(rows)
        cpu = server.metric("ranker_process_cpu_seconds_total", worker="0")
        os.kill(office_pid(server.log.read_text()), signal.SIGKILL)
        for _ in range(100):
            client.rank(rows)
            time.sleep(0.01)
        server.wait_for_log("(?s)(office serves.*){2}")
        assert server.metric("ranker_requests_total", code="OK") == 110
        assert server.metric("ranker_process_cpu_seconds_total", worker="0") >= cpu
    assert server.metric("ranker_worker_restarts_total") == 0
    assert server.stop() == 0


def test_a_scrape_that_hangs_holds_no_request_up(start, truth):
    server = start()
    os.kill(office_pid(server.log.read_text()), signal.SIGSTOP)
    try:
        with RankerClient(server.address, timeout=10.0) as client:
            for _ in range(50):
                client.rank(truth.rows[:30])
    finally:
        os.kill(office_pid(server.log.read_text()), signal.SIGCONT)
    assert server.metric("ranker_requests_total", code="OK") == 50
