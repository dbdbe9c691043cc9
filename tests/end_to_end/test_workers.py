"""Workers that share a port, die, can't start, and are replaced."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker.client import RankerClient
from ranker.export import export_onnx
from tests.end_to_end.broken_server import LOST
from tests.end_to_end.conftest import (
    Broken,
    RunningServer,
    on_one_transport,
)
from tests.end_to_end.test_lifecycle import asked
from tests.waiting import PATIENCE, wait_until


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
    before = server.worker()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: server.worker() != before)
    wait_until(lambda: server.metric("ranker_workers") == 2)
    rank_over_many_connections()
    assert server.metric("ranker_requests_total", code="OK") == 40
    assert server.metric("ranker_worker_restarts_total") == 1
    assert server.stop() == 0
    for pid in (server.worker(0), server.worker(1)):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_that_replaces_another_serves_the_same_model(truth, tmp_path):
    """Whatever has become of the file: all answers are of one model, under its own name."""
    model = tmp_path / "books.onnx"
    shutil.copy(truth.path, model)
    rows = truth.rows[:30]
    expected = truth.scores(rows)
    info = r'ranker_model_info\{.*?model="(.*?)".*?version="(.*?)"'
    with RunningServer(tmp_path / "server.log", str(model), "--workers", "2") as server:

        def replace_worker(times: int) -> None:
            os.kill(server.worker(), signal.SIGKILL)
            server.wait_for_log(f"(?s)(worker 0 serves.*){{{times + 1}}}")
            for _ in range(16):
                with RankerClient(server.address, timeout=10.0) as client:
                    ranking = client.rank(rows)
                    assert ranking.version == "7"
                    np.testing.assert_array_equal(ranking.scores, expected[ranking.indices])
            assert re.findall(info, server.metrics())[0] == ("books", "7")

        model.unlink()
        replace_worker(1)
        export_onnx(truth.booster, model, name="books", version="9", iteration_range=(0, 5))
        replace_worker(2)


@on_one_transport
def test_a_worker_that_cannot_start_is_tried_again_until_it_can(
    start, truth, tmp_path, monkeypatch
):
    broken = tmp_path / "broken"
    monkeypatch.setenv("BROKEN_START", str(broken))
    server = start("--workers", "2", kind=Broken)
    broken.touch()
    os.kill(server.worker(), signal.SIGKILL)
    server.wait_for_log("worker 0 can't do its work: books@7: it is broken today")
    server.wait_for_log("worker 0 ended with exit code 1")
    assert server.metric("ranker_model_loads_total", outcome="error") >= 1
    with RankerClient(server.address, timeout=10.0) as client:
        expected = np.argsort(-truth.scores(truth.rows[:30]), kind="stable")
        np.testing.assert_array_equal(client.rank(truth.rows[:30]).indices, expected)
    broken.unlink()
    server.wait_for_log("(?s)(worker 0 serves.*){2}")
    assert server.stop() == 0


def test_a_worker_whose_engine_is_lost_drains_and_is_replaced(start, truth):
    server = start(kind=Broken)
    rows = truth.rows[:3].copy()
    with (
        RankerClient(server.address, timeout=PATIENCE) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        client.rank(rows)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        lost = rows.copy()
        lost[0, 0] = LOST
        assert asked(channel, lost).code() is grpc.StatusCode.UNAVAILABLE
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.wait_for_log("an engine is lost: draining")
        server.wait_for_log("worker 0 ended with exit code 3")
        server.wait_for_log("(?s)(worker 0 serves.*){2}")
        client.wait_ready(30)
        expected = np.argsort(-truth.scores(rows), kind="stable")
        np.testing.assert_array_equal(client.rank(rows, timeout=10.0).indices, expected)
    assert server.stop() == 0


class Scarce(RunningServer):
    """A server whose system has no process to spare, now and then."""

    program = ("-m", "tests.end_to_end.scarce_server")


@on_one_transport
def test_a_worker_that_cannot_be_started_anew_is_tried_again(start, truth, monkeypatch):
    monkeypatch.setenv("SCARCE", "4,5")  # the third process is the office
    server = start("--workers", "2", "--log-format", "text", kind=Scarce)
    os.kill(server.worker(), signal.SIGKILL)
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
        + ["--port", "0", "--metrics-port", "-1", "--http-port", "-1", "--workers", "2"],
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


def test_workers_end_when_their_supervisor_is_killed(start):
    server = start("--workers", "2")
    pids = [server.worker(0), server.worker(1)]
    server.signal(signal.SIGKILL)
    server.process.wait()

    def gone() -> bool:
        return not any(os.path.exists(f"/proc/{pid}") for pid in pids)

    wait_until(gone)
