"""Signals to end: who gets them, when, and what callers notice."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest

from ranker.client import RankerClient
from ranker.client.request import rank_request
from ranker.errors import RankerError
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import RunningServer, on_both_transports
from tests.end_to_end.slow_link import SlowLink
from tests.office.support import ask as ask_http
from tests.waiting import PATIENCE, wait_until

DELAY = ("--max-batch-delay", "600")  # until it drains, so that there is something in flight


class InTerminal(RunningServer):
    """A server with a process group of its own, as a shell starts one."""

    group = 0


def answers_of(server: RunningServer, rows, count: int, end) -> list[object]:
    """What callers get whose requests are in flight when `end` is called."""
    answers: list[object] = []

    def ask() -> None:
        with RankerClient(server.address, timeout=PATIENCE) as client:
            try:
                answers.append(client.rank(rows, timeout=30.0).indices.tolist())
            except RankerError as error:
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.metric("ranker_queue_rows") == count * len(rows))
    end()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="ctrl-c"),
        pytest.param(signal.SIGHUP, id="it-closes"),  # there is no configuration to read anew
    ],
)
def test_what_a_terminal_sends_to_every_process_loses_no_request(start, truth, number):
    server = start("--workers", "2", *DELAY, kind=InTerminal)
    rows = truth.rows[:20]
    answers = answers_of(server, rows, 8, lambda: os.killpg(server.process.pid, number))
    assert answers == [np.argsort(-truth.scores(rows), kind="stable").tolist()] * 8
    assert server.process.wait(60) == 0


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGTERM, signal.SIGHUP], id="as-systemd-with-SendSIGHUP"),
        pytest.param([signal.SIGHUP, signal.SIGHUP], id="twice"),
        pytest.param([signal.SIGHUP, signal.SIGTERM], id="before-the-first-SIGTERM"),
    ],
)
def test_sighup_is_no_second_signal_to_end(start, truth, signals):
    server = start("--workers", "2", *DELAY, kind=InTerminal)
    rows = truth.rows[:20]

    def end() -> None:
        for number, each in enumerate(signals, start=1):
            server.signal(each)
            wait_until(lambda count=number: has_heard(server, count))

    answers = answers_of(server, rows, 8, end)
    assert answers == [np.argsort(-truth.scores(rows), kind="stable").tolist()] * 8
    assert server.process.wait(60) == 0
    assert server.log.read_text().count("drained") == 2


def has_heard(server: RunningServer, count: int) -> bool:
    """Whether so many signals to end have come, or it has ended already."""
    heard = re.findall(r"\bSIG(?:HUP|TERM)\b", server.log.read_text())
    return len(heard) >= count or server.process.poll() is not None


def test_sighup_to_every_process_has_the_configuration_read_and_ends_none(truth, tmp_path):
    config = tmp_path / "ranker.yaml"
    config.write_text(json.dumps({"models": {"books": {"source": str(truth.path)}}}))
    with InTerminal(tmp_path / "log", "--config", str(config), "--workers", "2") as server:
        before = server.processes()
        for process in before:
            process.send_signal(signal.SIGHUP)
        server.wait_for_log("SIGHUP: looking")
        assert ask_http(server.http_port, "/healthz").status == 200
        with RankerClient(server.address, timeout=PATIENCE) as client:
            client.rank(truth.rows[:20])
        assert set(before) <= set(server.processes())  # there may be one more, which reads models
        assert server.stop() == 0
    assert " ended with " not in server.log.read_text()


@on_both_transports
def test_a_service_managers_signal_to_every_process_loses_no_request(start, truth):
    """As systemd ends a service: the supervisor's own SIGTERM comes on top, a little later."""
    server = start("--workers", "2", *DELAY, kind=InTerminal)
    processes = sorted(server.processes(), key=lambda each: each.pid == server.process.pid)
    rows = truth.rows[:20]

    def end() -> None:
        for process in processes:  # the supervisor last
            process.send_signal(signal.SIGTERM)
            time.sleep(0.01)

    answers = answers_of(server, rows, 8, end)
    assert answers == [np.argsort(-truth.scores(rows), kind="stable").tolist()] * 8
    assert server.process.wait(60) == 0
    log = server.log.read_text()
    assert log.count("drained") == 2
    assert "unanswered" not in log


def test_workers_that_do_not_end_are_killed(start):
    server = start("--workers", "2", "--drain-timeout", "0.1")
    workers = [each for each in server.processes() if "ranker.process.worker" in each.cmdline()]
    assert len(workers) == 2
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    log = server.log.read_text()
    assert "worker 0 does not end; killing it" in log
    assert "worker 1 does not end; killing it" in log


@on_both_transports
def test_an_answer_reaches_a_slow_reader_before_the_server_ends(start, truth):
    server = start("--max-request-rows", "20000")
    rows = np.resize(truth.rows, (15_000, truth.rows.shape[1]))
    ids = [f"{i:0130d}" for i in range(len(rows))]  # 2 MB
    with SlowLink(server.port, bytes_per_second=500_000) as link:
        # What the caller has not asked for stays within the server, and not in the kernel.
        little = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
        with grpc.insecure_channel(f"127.0.0.1:{link.port}", little) as channel:
            rank = channel.unary_unary("/ranker.v1.RankingService/Rank")
            answer = rank.future(rank_request(rows, candidate_ids=ids), timeout=60.0)
            wait_until(lambda: link.passed > 300_000)
            link.flows.clear()
            server.signal(signal.SIGTERM)
            wait_until(lambda: ask_http(server.http_port, "/readyz").status == 503)
            assert ask_http(server.http_port, "/healthz").status == 200
            link.flows.set()
            assert len(pb.RankResponse.FromString(answer.result()).candidate_ids) == len(rows)
    assert server.process.wait(60) == 0


def test_nobody_waits_in_vain_while_the_last_metrics_are_exported(start):
    """Between the end of the workers and that of the server a call is refused at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and no more
        monitoring = f"127.0.0.1:{silent.getsockname()[1]}"
        server = start("--gcp-project", "shop", "--gcp-emulator", monitoring)
        server.signal(signal.SIGTERM)
        server.wait_for_log("all workers have ended")
        assert server.process.poll() is None
        with grpc.insecure_channel(server.address) as channel:  # our client would ask again
            call = channel.unary_unary("/ranker.v1.RankingService/ListModels")
            assert call.future(b"", timeout=30.0).code() is grpc.StatusCode.UNAVAILABLE
        assert server.process.poll() is None, "it ended before the call"
    assert server.stop() == 0


def can_be_first() -> bool:
    """Whether this user may start a process that is the first one of its namespace."""
    command = ["unshare", "--pid", "--fork", "true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


@pytest.mark.skipif(not can_be_first(), reason="needs the right to make a PID namespace")
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(r"ranker\.engine\n", id="at-the-first-import"),
        pytest.param(r"ranker\.transport\.registry\n", id="at-the-last-import"),
        pytest.param(r"worker 0 started", id="while-it-loads"),
        pytest.param(r"listening on", id="when-it-listens"),
    ],
)
def test_the_first_process_of_a_container_hears_every_signal(truth, tmp_path, moment):
    """The kernel ignores a signal to PID 1 that has no handler."""
    log = tmp_path / "server.log"
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-X", "importtime"]
    command += ["-m", "ranker", "serve", str(truth.path), "--host", "127.0.0.1", "--port", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--metrics-port", "-1", "--http-port", "-1"], stdout=stream, stderr=stream
        )
    try:
        wait_until(lambda: re.search(moment, log.read_text()))
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(children) as file:
            first = int(file.read())
        os.kill(first, signal.SIGTERM)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
