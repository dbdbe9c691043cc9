"""Processes that are there, and do not move."""

from __future__ import annotations

import os
import re
import signal
import time

import grpc
import numpy as np

from ranker.client import RankerClient
from tests.end_to_end.broken_server import LARGE, LEAK, STUCK, STUCK_ON_LOOP
from tests.end_to_end.conftest import (
    Broken,
    RunningServer,
    on_both_transports,
    on_one_transport,
)
from tests.end_to_end.test_lifecycle import asked
from tests.waiting import wait_until

REPLACED_WITHIN = 10.0
"""Seconds, and some more for a machine that is busy."""
SPARE = 20.0


def served_by_everyone(server: RunningServer, truth) -> None:
    expected = np.argsort(-truth.scores(truth.rows[:30]), kind="stable")
    for _ in range(16):
        with RankerClient(server.address, timeout=10.0) as client:
            np.testing.assert_array_equal(client.rank(truth.rows[:30]).indices, expected)


@on_one_transport
def test_processes_that_stop_are_replaced_be_it_while_they_load(
    start, truth, tmp_path, monkeypatch
):
    monkeypatch.setenv("STOPPED_START", str(tmp_path / "stopped"))
    (tmp_path / "stopped").touch()  # the first worker that sees it removes it, and stops
    server = start("--workers", "2", kind=Broken)
    [loading] = re.findall(r"worker [01] has not moved for .* killing it", server.log.read_text())
    served_by_everyone(server, truth)
    restarts = server.metric("ranker_worker_restarts_total")

    for _ in range(3):  # the supervisor itself, as where a machine is suspended
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(server.process.pid, signal.SIGCONT)
        time.sleep(0.2)

    os.kill(server.office(), signal.SIGSTOP)
    os.kill(server.worker(), signal.SIGSTOP)
    began = time.monotonic()
    server.wait_for_log("(?s)(worker 0 serves.*){2}")
    assert time.monotonic() - began < REPLACED_WITHIN + SPARE
    killed = re.findall(
        r"worker 0 has not moved for \d+\.\d s; killing it: .* and was stopped",
        server.log.read_text(),
    )
    assert len(killed) == 1 + loading.startswith("worker 0")
    served_by_everyone(server, truth)
    server.wait_for_log("(?s)(office serves.*){2}")
    assert server.metric("ranker_worker_restarts_total") == restarts + 1
    assert server.stop() == 0


def test_a_batch_that_never_returns_costs_a_worker_and_no_more(start, truth, monkeypatch):
    monkeypatch.setenv("LONGEST_BATCH", "2")  # seconds; by default they are 30
    server = start(kind=Broken)

    # On the loop itself, then on an engine's thread.
    for workers, rows, feature in ((2, 1, STUCK_ON_LOOP), (3, LARGE, STUCK)):
        pid = server.worker()
        stuck = truth.rows[:rows].copy()
        stuck[0, 0] = feature
        with grpc.insecure_channel(server.address) as channel:
            call = asked(channel, stuck)
            wait_until(lambda before=pid: server.worker() != before)
            assert call.code() is grpc.StatusCode.UNAVAILABLE
        server.wait_for_log(f"(?s)(worker 0 serves.*){{{workers}}}")
        served_by_everyone(server, truth)
    assert server.stop() == 0


@on_both_transports
def test_a_worker_whose_memory_stays_short_is_replaced(start, truth, monkeypatch):
    monkeypatch.setenv("SHORT_SECONDS", "0.5")  # by default they are 60
    server = start("--max-memory", str(100 * 2**20), kind=Broken)
    leaking = truth.rows[:1].copy()
    leaking[0, 0] = LEAK
    with grpc.insecure_channel(server.address) as channel:
        assert asked(channel, leaking).code() is grpc.StatusCode.OK
        wait_until(lambda: asked(channel, truth.rows[:1]).code() is not grpc.StatusCode.OK)
    server.wait_for_log("memory stays short: draining, to end with exit code 4")
    server.wait_for_log("(?s)(worker 0 serves.*){2}")
    served_by_everyone(server, truth)
    assert server.stop() == 0
